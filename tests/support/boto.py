"""Calls of AWS that Sluice does not make itself: reads a list of [region, service, operation, arguments] from standard
input, and writes the list of their answers.
"""

import json
import sys

import boto3


def ask(region, service, operation, arguments):
    client = boto3.client(service, region_name=region)
    if client.can_paginate(operation):
        return client.get_paginator(operation).paginate(**arguments).build_full_result()
    answer = getattr(client, operation)(**arguments)
    del answer["ResponseMetadata"]
    return answer


print(json.dumps([ask(*call) for call in json.load(sys.stdin)], default=str))
