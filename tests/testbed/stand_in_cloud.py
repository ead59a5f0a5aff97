#!/usr/bin/env python3
"""An EC2 for tests: moto's server, which nobody here wrote, and in front of it what moto lacks and what a cloud does on a bad day.

    stand_in_cloud.py STATE     writes STATE/url when it answers; needs moto[server], with botocore and boto3

Every request is checked before it is answered: its signature against botocore's signer, the names, types and enumerations of its parameters
against botocore's service models. What is wrong is written to STATE/wrong and answered with an error, so that neither moto nor this file
can hide a wrong call.

Stand-ins of our own, where moto has nothing (each says so below): client tokens of RunInstances, console output (STATE/console), a public
address that leads somewhere (STATE/address), image parameters, quotas (STATE/quota), prices (STATE/prices: "TYPE USD" a line; without it
nobody may ask), what AWS's own checks find (STATE/checks: "impaired") and what it plans (STATE/event: "CODE TIME DESCRIPTION"), tags of an
image's snapshots, what the internet takes our address for (STATE/caller), where there are machines to be had (STATE/capacity: "TYPE ZONE"
a line; without it everywhere), one that AWS ends by itself (STATE/ends: "CODE WORDS"; who asks for an instance by its id sees it terminated).

There are two accounts, each with keys of its own (ACCOUNTS). GET /counts tells how many instances, volumes, groups and keys gpustrap has in
the first one.

On request, by files that the suite writes:
    STATE/faults/N-ACTION     one answer to ACTION is a fault (of a region alone: N-ACTION@REGION); taken once, or as often as it is asked
                              where the text ends in "forever": "refuse STATUS CODE [MESSAGE]", "cut before", "cut after", "skew"
    STATE/hang                "N before" or "N after": the N-th request from now on is not answered; STATE/hung appears
"""
import base64
import datetime
import http.server
import json
import os
import re
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from unittest import mock

import boto3
import botocore.auth
import botocore.session
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from moto.server import ThreadedMotoServer

ACCESS, SECRET = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
ACCOUNTS = {ACCESS: "123456789012", "AKIDSECOND": "210987654321"}
STATE = sys.argv[1]
os.makedirs(f"{STATE}/faults", exist_ok=True)
session = botocore.session.get_session()
models = {"ec2": session.get_service_model("ec2"), "ssm": session.get_service_model("ssm"), "sts": session.get_service_model("sts"),
          "servicequotas": session.get_service_model("service-quotas"), "pricing": session.get_service_model("pricing")}
lock = threading.Lock()
tokens = {}  # account, region and ClientToken: what was asked, what was answered
counter = {"hang": 0}


def path_of(name):
    return os.path.join(STATE, name)


def text_of(name, missing=""):
    try:
        with open(path_of(name), encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        return missing


def note(name, line):
    with lock, open(path_of(name), "a", encoding="utf-8") as file:
        file.write(line + "\n")


# --- is it a call that AWS would take?

def query_name(name, shape):
    """How the EC2 protocol calls a member on the wire."""
    if "queryName" in shape.serialization:
        return shape.serialization["queryName"]
    wire = shape.serialization.get("name", name)
    return wire[0].upper() + wire[1:]


def check_scalar(shape, value):
    kind = shape.type_name
    if kind in ("integer", "long") and not re.fullmatch(r"-?\d+", value):
        return f"{value!r} is no {kind}"
    if kind == "boolean" and value not in ("true", "false"):
        return f"{value!r} is no boolean"
    if kind == "timestamp" and not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", value):
        return f"{value!r} is no time"
    if kind == "blob":
        base64.b64decode(value, validate=True)
    if kind == "string" and getattr(shape, "enum", None) and value not in shape.enum:
        return f"{value!r} is none of {shape.enum[:8]}"
    return None


def check_query(shape, parts, value):
    if shape.type_name == "structure":
        for name, member in shape.members.items():
            if parts and query_name(name, member) == parts[0]:
                return check_query(member, parts[1:], value)
        return f"no member {'.'.join(parts)}"
    if shape.type_name == "list":
        if not parts or not re.fullmatch(r"[1-9]\d*", parts[0]):
            return "a list is counted from 1"
        return check_query(shape.member, parts[1:], value)
    return f"{'.'.join(parts)} below a {shape.type_name}" if parts else check_scalar(shape, value)


def check_json(shape, value):
    kinds = {"string": str, "integer": int, "long": int, "double": (int, float), "boolean": bool, "list": list, "structure": dict}
    if not isinstance(value, kinds[shape.type_name]):
        return f"{value!r} is no {shape.type_name}"
    if shape.type_name == "string" and getattr(shape, "enum", None) and value not in shape.enum:
        return f"{value!r} is none of {shape.enum[:8]}"
    if shape.type_name == "list":
        return next((wrong for wrong in (check_json(shape.member, item) for item in value) if wrong), None)
    if shape.type_name == "structure":
        for name, member in value.items():
            if name not in shape.members:
                return f"no member {name}"
            wrong = check_json(shape.members[name], member)
            if wrong:
                return f"{name}: {wrong}"
    return None


def what_is_wrong(service, action, values):
    try:
        operation = models[service].operation_model(action)
    except Exception:  # pylint: disable=broad-except
        return f"{service} has no {action}"
    shape = operation.input_shape
    if isinstance(values, dict):
        missing = [name for name in shape.required_members if name not in values]
        return f"lacks {missing}" if missing else check_json(shape, values)
    if len({name for name, _ in values}) != len(values):
        return "a parameter twice"
    for name, value in values:
        if name in ("Action", "Version"):
            continue
        wrong = check_query(shape, name.split("."), value)
        if wrong:
            return f"{name}={value}: {wrong}"
    for name in shape.required_members:
        wire = query_name(name, shape.members[name])
        if not any(given == wire or given.startswith(wire + ".") for given, _ in values):
            return f"lacks {wire}"
    return None


def signature_is_right(handler, body):
    found = re.fullmatch(r"AWS4-HMAC-SHA256 Credential=([^/]+)/\d+/([^/]+)/([^/]+)/aws4_request, SignedHeaders=([^,]+), Signature=(\w+)",
                         handler.headers.get("Authorization", ""))
    if not found or found[1] not in ACCOUNTS:
        return False
    handler.account, handler.region = ACCOUNTS[found[1]], found[2]
    headers = {name: handler.headers[name] for name in found[4].split(";") if name not in ("x-amz-date", "host", "x-amz-security-token")}
    request = AWSRequest(method=handler.command, url=f"http://{handler.headers['Host']}{handler.path}", headers=headers, data=body)
    when = datetime.datetime.strptime(handler.headers["X-Amz-Date"], "%Y%m%dT%H%M%SZ")
    with mock.patch.object(botocore.auth, "get_current_datetime", lambda *_, **__: when):
        botocore.auth.SigV4Auth(Credentials(found[1], SECRET, handler.headers.get("X-Amz-Security-Token")), found[3], found[2]).add_auth(request)
    return request.headers["Authorization"].endswith("Signature=" + found[5])


# --- what moto lacks

def stand_in(service, action, values):
    """An answer of our own, or None where moto is asked."""
    if service == "ec2" and action == "GetConsoleOutput" and os.path.exists(path_of("console")):
        output = base64.b64encode(text_of("console").encode()).decode()
        return 200, f"<GetConsoleOutputResponse><instanceId>{dict(values)['InstanceId']}</instanceId><output>{output}</output></GetConsoleOutputResponse>"
    if service == "ssm" and action == "GetParameter":
        if re.match(r"/aws/service/(canonical/ubuntu/server/24\.04/.*ebs-gp3|deeplearning)/", values["Name"]):
            return 200, json.dumps({"Parameter": {"Name": values["Name"], "Type": "String", "Value": text_of("image").strip()}})
        return 400, json.dumps({"__type": "ParameterNotFound", "message": ""})
    if service == "servicequotas" and action in ("GetServiceQuota", "GetAWSDefaultServiceQuota"):
        return 200, json.dumps({"Quota": {"QuotaCode": values["QuotaCode"], "Value": float(text_of("quota", "64")), "Adjustable": True}})
    if service == "servicequotas" and action == "RequestServiceQuotaIncrease":
        note("asked_quota", f"{values['QuotaCode']} {values['DesiredValue']:.0f}")
        return 200, json.dumps({"RequestedQuota": {"Status": "PENDING"}})
    if service == "pricing" and action == "GetProducts":
        if not os.path.exists(path_of("prices")):
            return 400, json.dumps({"__type": "AccessDeniedException", "message": "not authorized to perform: pricing:GetProducts"})
        asked = {one["Field"]: one["Value"] for one in values["Filters"]}
        listed = dict(line.split() for line in text_of("prices").splitlines())
        return 200, json.dumps({"FormatVersion": "aws_v1", "PriceList": [product_of(asked, listed[asked["instanceType"]])]
                                if asked["instanceType"] in listed else []})
    return None


def product_of(asked, usd):
    """As AWS writes one: a document in a string, its terms below keys that are made of the SKU."""
    return json.dumps({
        "product": {"productFamily": "Compute Instance", "sku": "SKU", "attributes": asked},
        "serviceCode": "AmazonEC2", "publicationDate": "2026-11-20T17:11:45Z",
        "terms": {"OnDemand": {"SKU.TERM": {"sku": "SKU", "priceDimensions": {"SKU.TERM.RATE": {
            "unit": "Hrs", "pricePerUnit": {"USD": usd}, "beginRange": "0", "endRange": "Inf"}}}},
            "Reserved": {"SKU.OTHER": {"priceDimensions": {"SKU.OTHER.RATE": {"unit": "Quantity", "pricePerUnit": {"USD": "9999"}}}}}}})


def with_checks(text):
    """moto finds every instance well, and plans nothing."""
    if os.path.exists(path_of("checks")):
        text = text.replace("<status>ok</status>", f"<status>{text_of('checks').strip()}</status>", 1)
    if os.path.exists(path_of("event")):
        code, when, description = text_of("event").strip().split(" ", 2)
        event = f"<eventsSet><item><code>{code}</code><description>{description}</description><notBefore>{when}</notBefore></item></eventsSet>"
        text = re.sub(r"<eventsSet ?/>|<eventsSet></eventsSet>", "", text).replace("<instanceId>", event + "<instanceId>", 1)
    return text


def ended(text):
    code, words = text_of("ends").strip().split(" ", 1)
    text = re.sub(r"(?s)<stateReason>.*?</stateReason>|<stateReason ?/>", "", text)
    return re.sub(r"(?s)<instanceState>.*?</instanceState>", "<instanceState><code>48</code><name>terminated</name></instanceState>"
                  f"<stateReason><code>{code}</code><message>{words}</message></stateReason>", text)


def ask_moto(handler, body):
    headers = {name: value for name, value in handler.headers.items() if name.lower() not in ("host", "content-length", "accept-encoding")}
    headers["x-moto-account-id"] = handler.account
    # moto knows CreateImage with the image's tags alone, without those of its snapshots, which are given them afterwards.
    whole = body
    if b"Action=CreateImage&" in body:
        body = b"&".join(part for part in body.split(b"&") if not part.startswith(b"TagSpecification.2."))
    request = urllib.request.Request(moto + handler.path, data=body, headers=headers, method=handler.command)
    try:
        with urllib.request.urlopen(request) as answer:
            status, text = answer.status, answer.read().decode()
            if whole != body and status == 200:
                tag_snapshots(re.search(r"<imageId>([^<]*)<", text)[1], dict(urllib.parse.parse_qsl(whole.decode())))
            return status, text
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def ec2_of_moto(region="us-east-1"):
    return boto3.client("ec2", region_name=region, endpoint_url=moto, aws_access_key_id=ACCESS, aws_secret_access_key=SECRET)


def has_capacity(region, values):
    if not os.path.exists(path_of("capacity")):
        return True
    subnet, = ec2_of_moto(region).describe_subnets(SubnetIds=[values["SubnetId"]])["Subnets"]
    return f"{values['InstanceType']} {subnet['AvailabilityZone']}" in text_of("capacity").splitlines()


def counts():
    client, own = ec2_of_moto(), [{"Name": "tag-key", "Values": ["gpustrap"]}]
    alive = [{"Name": "instance-state-name", "Values": ["pending", "running", "stopping", "stopped"]}]
    return [sum(len(one["Instances"]) for one in client.describe_instances(Filters=alive)["Reservations"]),
            len(client.describe_volumes()["Volumes"]), len(client.describe_security_groups(Filters=own)["SecurityGroups"]),
            len(client.describe_key_pairs()["KeyPairs"])]


def tag_snapshots(image, values):
    client = ec2_of_moto()
    disks = client.describe_images(ImageIds=[image])["Images"][0]["BlockDeviceMappings"]
    tags, prefix = [], "TagSpecification.2.Tag."
    while f"{prefix}{len(tags) + 1}.Key" in values:
        place = f"{prefix}{len(tags) + 1}"
        tags.append({"Key": values[place + ".Key"], "Value": values[place + ".Value"]})
    client.create_tags(Resources=[disk["Ebs"]["SnapshotId"] for disk in disks if "SnapshotId" in disk.get("Ebs", {})], Tags=tags)


def answer_to(handler, service, action, values, body):
    own = stand_in(service, action, values)
    if own:
        return own
    token = None
    if action == "RunInstances" and "ClientToken" in dict(values):
        token = handler.account, handler.region, dict(values)["ClientToken"]
    if token in tokens:
        asked, answer = tokens[token]
        if asked != body:
            return 400, refusal("IdempotentParameterMismatch", "Arguments on this idempotent request are inconsistent")
        return answer
    if action == "RunInstances" and not has_capacity(handler.region, dict(values)):
        return 500, refusal("InsufficientInstanceCapacity", "We currently do not have sufficient capacity in the zone you requested.")
    status, text = ask_moto(handler, body)
    if os.path.exists(path_of("address")) and action == "DescribeInstances":
        text = re.sub(r"<ipAddress>[^<]*</ipAddress>", f"<ipAddress>{text_of('address').strip()}</ipAddress>", text)
    if os.path.exists(path_of("ends")) and "InstanceId.1" in dict(values):
        text = ended(text) if action == "DescribeInstances" else re.sub(r"(?s)<instanceStatusSet>.*</instanceStatusSet>", "", text)
    if action == "DescribeInstanceStatus":
        text = with_checks(text)
    if token and status == 200:
        tokens[token] = body, (status, text)
    return status, text


def refusal(code, message):
    return f"<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors><RequestID>r</RequestID></Response>"


def take_fault(action, region):
    for name in sorted(os.listdir(path_of("faults"))):
        if name.split("-", 1)[1] not in (action, f"{action}@{region}"):
            continue
        text = text_of(f"faults/{name}").strip()
        if not text.endswith(" forever"):
            os.unlink(path_of(f"faults/{name}"))
        return text.removesuffix(" forever").split(" ", 3)
    return None


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def reply(self, status, text, date=None):
        data = text.encode()
        self.send_response_only(status)
        self.send_header("Date", date or self.date_time_string())
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):  # what checkip answers
        self.reply(200, " ".join(map(str, counts())) if self.path == "/counts" else text_of("caller", "198.51.100.7") + "\n")

    def cut(self):
        self.close_connection = True
        self.connection.shutdown(2)

    def hang(self):
        open(path_of("hung"), "w", encoding="utf-8").close()
        while os.path.exists(path_of("hung")):
            time.sleep(0.02)
        self.cut()

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        target = self.headers.get("X-Amz-Target")
        if target:
            service = {"AmazonSSM": "ssm", "ServiceQuotasV20190624": "servicequotas", "AWSPriceListService": "pricing"}[target.split(".")[0]]
            action, values = target.split(".")[1], json.loads(body)
        else:
            values = urllib.parse.parse_qsl(body.decode(), keep_blank_values=True, strict_parsing=True)
            action = dict(values)["Action"]
            service = "sts" if "AssumeRole" in action or action == "GetCallerIdentity" else "ec2"
        note("calls", f"{service} {action}")
        wrong = what_is_wrong(service, action, values)
        if not wrong and not signature_is_right(self, body):
            wrong = "a signature that botocore would not make"
        if wrong:
            note("wrong", f"{service} {action}: {wrong}")
            self.reply(400, refusal("WrongCall", wrong))
            return
        with lock:
            hang = text_of("hang").split()
            counter["hang"] = counter["hang"] + 1 if hang else 0
            here = bool(hang) and counter["hang"] == int(hang[0])
        if here and hang[1] == "before":
            self.hang()
            return
        fault = take_fault(action, self.region)
        if fault and fault[0] == "refuse":
            self.reply(int(fault[1]), refusal(fault[2], (fault + [""])[3]))
            return
        if fault and fault[0] == "skew":  # a cloud whose clock is two hours ahead of ours
            asked = datetime.datetime.strptime(self.headers["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.timezone.utc)
            theirs = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=2)
            if abs(theirs - asked) > datetime.timedelta(minutes=5):
                open(path_of(f"faults/0-{action}"), "w", encoding="utf-8").write("skew")
                self.reply(400, refusal("RequestExpired", "Request has expired."), theirs.strftime("%a, %d %b %Y %H:%M:%S GMT"))
                return
        if fault and fault[:2] == ["cut", "before"]:
            self.cut()
            return
        status, text = answer_to(self, service, action, values, body)
        if here:
            self.hang()
        elif fault and fault[:2] == ["cut", "after"]:
            self.cut()
        else:
            self.reply(status, text)


moto_server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
moto_server.start()
moto = "http://%s:%d" % moto_server.get_host_and_port()
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
with open(path_of("moto"), "w", encoding="utf-8") as ready:
    ready.write(moto)
with open(path_of("url.new"), "w", encoding="utf-8") as ready:
    ready.write(f"http://127.0.0.1:{server.server_port}")
os.rename(path_of("url.new"), path_of("url"))
server.serve_forever()
