"""Vertex AI's Model Registry and endpoints: plan, register, deploy, shift traffic, roll back.

    python -m serving.registry list --project P --region R --model census-income

Every step reads the current state and makes the missing change, so that a second run finishes an interrupted push.

Aliases and labels on the model's versions name their owner, their content and the serving version. A lease in Vertex ML
Metadata keeps two pushes apart. Each change leaves an execution there, as a record of the change and its user.
"""
