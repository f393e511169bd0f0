"""Vertex AI's Model Registry and endpoints: plan, register, deploy, shift traffic, roll back.

    python -m serving.registry list --project P --region R --model census-income

Every step looks at what is there before it does what is missing, so that a push that was cut off is finished by running
it again. What is written where: aliases and labels on the model's versions name their owner, their content and the
serving version; a lease in Vertex ML Metadata keeps two pushes apart; each change leaves an execution there, as a
record of who did what.
"""
