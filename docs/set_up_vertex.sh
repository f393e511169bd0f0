#!/usr/bin/env bash
# Sets up a Google Cloud project for docs/vertex.md: APIs, bucket, repository of images, service accounts, roles.
#
#   docs/set_up_vertex.sh PROJECT REGION BUCKET PERSON [dataflow]
#   docs/set_up_vertex.sh my-project europe-west4 my-project-pipelines ada@example.com
#
# PERSON submits jobs. With `dataflow`, the account of Dataflow's workers is made too. May be repeated.
set -euo pipefail

if [ "$#" -lt 4 ] || [ "$#" -gt 5 ]; then
  sed -n '2,7p' "$0" >&2
  exit 2
fi
project=$1 region=$2 bucket=$3 person=$4 with_dataflow=${5:-}

runner="runner@$project.iam.gserviceaccount.com"
worker="worker@$project.iam.gserviceaccount.com"

on_project() { # MEMBER ROLE
  gcloud projects add-iam-policy-binding "$project" --member "$1" --role "$2" --condition None --quiet > /dev/null
}
on_bucket() { # MEMBER ROLE
  gcloud storage buckets add-iam-policy-binding "gs://$bucket" --member "$1" --role "$2" > /dev/null
}
on_repository() { # MEMBER ROLE
  gcloud artifacts repositories add-iam-policy-binding pipelines --location "$region" --project "$project" \
    --member "$1" --role "$2" > /dev/null
}
on_account() { # ACCOUNT MEMBER ROLE
  gcloud iam service-accounts add-iam-policy-binding "$1" --project "$project" --member "$2" --role "$3" > /dev/null
}
make_account() { # NAME
  gcloud iam service-accounts describe "$1@$project.iam.gserviceaccount.com" --project "$project" > /dev/null 2>&1 ||
    gcloud iam service-accounts create "$1" --project "$project"
}

gcloud services enable aiplatform.googleapis.com artifactregistry.googleapis.com cloudbuild.googleapis.com \
  cloudresourcemanager.googleapis.com compute.googleapis.com dataflow.googleapis.com iam.googleapis.com \
  storage.googleapis.com --project "$project"
gcloud storage buckets describe "gs://$bucket" > /dev/null 2>&1 ||
  gcloud storage buckets create "gs://$bucket" --project "$project" --location "$region" --uniform-bucket-level-access
gcloud artifacts repositories describe pipelines --location "$region" --project "$project" > /dev/null 2>&1 ||
  gcloud artifacts repositories create pipelines --repository-format docker --location "$region" --project "$project"
# `docker push` needs it.
gcloud auth configure-docker "$region-docker.pkg.dev" --quiet

# The pipeline's tasks, and the container that serves.
make_account runner
on_project "serviceAccount:$runner" roles/aiplatform.user
on_bucket "serviceAccount:$runner" roles/storage.objectAdmin
on_bucket "serviceAccount:$runner" roles/storage.legacyBucketReader
# The serving container reads AIP_STORAGE_URI as this account.
on_bucket "serviceAccount:$runner" roles/storage.objectViewer
# UploadModel reads the serving image as this account.
on_repository "serviceAccount:$runner" roles/artifactregistry.reader
# DeployModel and custom jobs name this account: actAs is needed on it, even by itself.
on_account "$runner" "serviceAccount:$runner" roles/iam.serviceAccountUser

# Who submits.
on_project "user:$person" roles/aiplatform.user
on_account "$runner" "user:$person" roles/iam.serviceAccountUser
on_bucket "user:$person" roles/storage.objectViewer
on_repository "user:$person" roles/artifactregistry.writer

if [ "$with_dataflow" = dataflow ]; then
  make_account worker
  on_project "serviceAccount:$runner" roles/dataflow.developer
  on_account "$worker" "serviceAccount:$runner" roles/iam.serviceAccountUser
  on_project "serviceAccount:$worker" roles/dataflow.worker
  on_bucket "serviceAccount:$worker" roles/storage.objectAdmin
  on_repository "serviceAccount:$worker" roles/artifactregistry.reader
fi
