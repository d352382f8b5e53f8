"""moto, an emulator of AWS, repaired where it differs from AWS in what Sluice relies on.

    moto.py         serves on a free port, prints the port, and ends when its standard input is closed: a test
                    process that dies takes it along
    moto.py PORT    serves on PORT until it is killed

Needs `pip install 'moto[server]'`; written against moto 5.2.
"""

import io
import itertools
import json
import logging
import os
import re
import sys
import threading
import time

sys.path.pop(0)  # this file's own folder, where `moto` would be this file

from moto.awslambda.models import LambdaFunction, lambda_backends
from moto.core import DEFAULT_ACCOUNT_ID as ACCOUNT
from moto.ec2.models.security_groups import SecurityGroupRule
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from moto.sqs import models
from moto.sqs.models import Queue, SQSBackend
from moto.sqs.responses import ActionResult, SQSResponse
from werkzeug.serving import make_server

DEDUPLICATION_SECONDS = 300

# --- Order ---------------------------------------------------------------------------------------------------------
# When several messages of a group come back because their visibility timed out, moto hands out a later one before
# the first. That is the way of every retry, so a test of order would prove nothing. A group is blocked while one of
# its messages is hidden, and messages that are visible again are forgotten as pending before, not while, the queue
# is searched. Calls come one after the other, and for each the time stands still: so no receiver sees a group that is
# half way back, and what is hidden by one call comes back at one moment.

calling = threading.RLock()
stock_now = models.unix_time_millis
moment = None


def at_one_moment(call):
    def wrapped(*args, **kwargs):
        global moment
        with calling:
            outermost = moment is None
            if outermost:
                moment = stock_now()
            try:
                return call(*args, **kwargs)
            finally:
                if outermost:
                    moment = None

    return wrapped


models.unix_time_millis = lambda: moment or stock_now()

for name in ["delete_message", "delete_message_batch", "change_message_visibility", "change_message_visibility_batch"]:
    setattr(SQSBackend, name, at_one_moment(getattr(SQSBackend, name)))

stock_receive = SQSBackend.receive_message


@at_one_moment
def receive_now(self, queue_name, count, visibility, attribute_names):
    queue = self.get_queue(queue_name)
    queue._pending_messages = {m for m in queue._pending_messages if not m.visible}
    return stock_receive(self, queue_name, count, 0, visibility, attribute_names)


def receive(self, queue_name, count, wait, visibility, attribute_names=None):
    end = time.time() + wait
    while True:
        messages = receive_now(self, queue_name, count, visibility, attribute_names)
        if messages or time.time() >= end:
            return messages
        time.sleep(0.05)


Queue.pending_message_groups = property(
    lambda queue: {m.group_id for m in queue._pending_messages if m.group_id and not m.visible}
)
SQSBackend.receive_message = receive

# --- Deduplication -------------------------------------------------------------------------------------------------
# moto compares only with messages that are still in the queue, whatever their group, and gives a duplicate an id of
# its own. AWS remembers for five minutes, also what was deleted, keeps groups apart where DeduplicationScope says
# so, and answers with the first one's id. On the way into a dead-letter queue AWS replaces the deduplication id.
# moto's sequence numbers are random; AWS's rise.

stock_add = Queue.add_message
sequence_numbers = itertools.count(18849496460467696128)


@at_one_moment
def add(self, message):
    if not (self.fifo_queue and message.deduplication_id):
        return stock_add(self, message)
    if message.__dict__.setdefault("origin", self.name) != self.name:
        message.deduplication_id = message.id
    deduplication_id, now = message.deduplication_id, time.time()
    per_group = self.attributes.get("DeduplicationScope") == "messageGroup"
    key = (message.group_id if per_group else None, deduplication_id)
    seen = self.__dict__.setdefault("seen_by_sluice", {})
    if key in seen and now - seen[key][1] < DEDUPLICATION_SECONDS:
        message.id = seen[key][0]
        return
    seen[key] = (message.id, now)
    message.sequence_number = str(next(sequence_numbers))
    message.deduplication_id = None  # keeps the stock comparison out of it
    stock_add(self, message)
    message.deduplication_id = deduplication_id


Queue.add_message = add

# --- Redrive -------------------------------------------------------------------------------------------------------
# moto answers StartMessageMoveTask and ListMessageMoveTasks with 500. As on AWS a message goes back to the queue that
# it was redriven from, or to DestinationArn; one that was sent to the queue itself stays without a DestinationArn.

tasks = []


def start_message_move_task(self):
    source_arn = self._get_param("SourceArn")
    destination = (self._get_param("DestinationArn") or "").split(":")[-1]
    source = self.sqs_backend.get_queue(source_arn.split(":")[-1])
    origin = lambda message: getattr(message, "origin", source.name)
    moved = [m for m in source.messages if destination or origin(m) != source.name]
    for message in moved:
        source._messages.remove(message)
        message.approximate_receive_count = 0
        self.sqs_backend.get_queue(destination or origin(message))._messages.append(message)
    task = {
        "TaskHandle": f"t{len(tasks)}",
        "Status": "COMPLETED",
        "SourceArn": source_arn,
        "ApproximateNumberOfMessagesMoved": len(moved),
        "StartedTimestamp": int(time.time() * 1000),
    }
    tasks.insert(0, task)
    return ActionResult(task)


def list_message_move_tasks(self):
    source_arn = self._get_param("SourceArn")
    return ActionResult({"Results": [task for task in tasks if task["SourceArn"] == source_arn][:10]})


SQSResponse.start_message_move_task = start_message_move_task
SQSResponse.list_message_move_tasks = list_message_move_tasks

# --- What OpenTofu reads back ----------------------------------------------------------------------------------------
# moto spaces JSON anew, forgets RedriveAllowPolicy, drops a queue's Policy when any other attribute is set, does not
# keep a function's LoggingConfig, and tells no description of a security group's rule whose other end is a group: each
# plan would find a change, and waiting for an attribute would never end.

stock_attributes, stock_set_attributes = Queue.attributes.fget, Queue._set_attributes


def attributes(queue):
    found = stock_attributes(queue)
    if isinstance(found.get("RedrivePolicy"), str):
        found["RedrivePolicy"] = json.dumps(json.loads(found["RedrivePolicy"]), separators=(",", ":"))
    if not found["RedriveAllowPolicy"]:
        del found["RedriveAllowPolicy"]
    return found


def set_attributes(queue, new, now=None):
    if "Policy" not in new and getattr(queue, "policy", None):
        new = {**new, "Policy": queue.policy}
    return stock_set_attributes(queue, new, now)


Queue.attributes = property(attributes)
Queue.redrive_allow_policy = None
Queue.BASE_ATTRIBUTES = Queue.BASE_ATTRIBUTES + ["RedriveAllowPolicy"]
Queue._set_attributes = set_attributes

stock_init, stock_configuration = LambdaFunction.__init__, LambdaFunction.get_configuration
stock_update = LambdaFunction.update_configuration


def init(self, *args, **kwargs):
    stock_init(self, *args, **kwargs)
    spec = kwargs.get("spec") or next(arg for arg in args if isinstance(arg, dict))
    self.logging = spec.get("LoggingConfig")


def update_configuration(self, spec):
    self.logging = spec.get("LoggingConfig", self.logging)
    return stock_update(self, spec)


def get_configuration(self, *args, **kwargs):
    plain = {"LogFormat": "Text", "LogGroup": "/aws/lambda/" + self.function_name}
    return {**stock_configuration(self, *args, **kwargs), "LoggingConfig": self.logging or plain}


LambdaFunction.logging = None
LambdaFunction.__init__ = init
LambdaFunction.update_configuration = update_configuration
LambdaFunction.get_configuration = get_configuration

SecurityGroupRule.description = property(
    lambda rule: (rule.ip_range or rule.source_group).get("Description")
)

# --- Triggers --------------------------------------------------------------------------------------------------------
# moto runs functions in Docker: what is sent to a queue that has a trigger waits for it. Here the test is the trigger.

Queue.lambda_event_source_mappings = property(lambda queue: {}, lambda queue, mappings: None)

# --- What a test asks of the cloud itself ----------------------------------------------------------------------------
#     GET /sluice/calls/KEY           the calls that were signed with this access key: [{"service", "target", "body"}]
#     GET /sluice/code/REGION/NAME    the zip of a Lambda function, which moto stores and does not hand out
# Only calls of the JSON protocols are kept, by their header X-Amz-Target: those are all that Sluice makes but STS's.

calls = {}
CREDENTIAL = re.compile(r"Credential=([^/]+)/[^/]+/([^/]+)/([^/]+)/")


class Observed:
    """The application, with a record of what it was asked."""

    def __init__(self, app):
        self.app = app

    def __call__(self, environ, start_response):
        match environ.get("PATH_INFO", "").split("/"):
            case ["", "sluice", "calls", key]:
                return self.answer(start_response, json.dumps(calls.get(key, [])).encode())
            case ["", "sluice", "code", region, name]:
                return self.answer(start_response, lambda_backends[ACCOUNT][region].get_function(name).code_bytes)
        signed = CREDENTIAL.search(environ.get("HTTP_AUTHORIZATION", ""))
        target = environ.get("HTTP_X_AMZ_TARGET")
        if signed and target:
            body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            environ["wsgi.input"] = io.BytesIO(body)
            key, _, service = signed.groups()
            call = {"service": service, "target": target, "body": json.loads(body or b"{}")}
            calls.setdefault(key, []).append(call)
        return self.app(environ, start_response)

    @staticmethod
    def answer(start_response, body):
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return [body]


# --- Serving -------------------------------------------------------------------------------------------------------


def main(port):
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    app = Observed(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", port or 0, app, threaded=True, request_handler=MotoRequestHandler)
    os.environ["MOTO_PORT"] = str(server.port)
    print(server.port, flush=True)
    if port:
        server.serve_forever()
    else:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        sys.stdin.read()


main(int(sys.argv[1]) if len(sys.argv) > 1 else None)
