#!/usr/bin/env python3
"""Writes sigv4.json: requests, and the Authorization header that botocore's signer makes for each.

    pip install botocore && tests/golden/cloud/make_sigv4.py > tests/golden/cloud/sigv4.json

The cases called "published" are those of AWS's own Signature Version 4 test suite that gpustrap could send (no query); their signatures
stand below as that suite gives them, and the script ends with an error where botocore's differ.
"""
import datetime
import json
import sys
from unittest import mock

import botocore.auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

ACCESS, SECRET = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
TOKEN = "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqTflfKD8YUuwthAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA=="
WHEN = datetime.datetime(2015, 8, 30, 12, 36, 0)
FORM = "application/x-www-form-urlencoded"

# name, headers, body, token, signature of the published suite
PUBLISHED = [
    ("post-vanilla", {}, "", "", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
    ("post-x-www-form-urlencoded", {"Content-Type": FORM}, "Param1=value1", "",
     "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"),
    ("post-x-www-form-urlencoded-parameters", {"Content-Type": FORM + "; charset=utf8"}, "Param1=value1", "",
     "1a72ec8f64bd914b0e42e42607c7fbce7fb2c7465f63e3092b3b0d39fa77a6fe"),
    ("post-header-key-sort", {"My-Header1": "value1"}, "", "", "c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c"),
    ("post-header-value-case", {"My-Header1": "VALUE1"}, "", "", "cdbc9802e29d2942e5e10b5bccfdd67c5f22c7c4e8ae67b53629efa58b974b7d"),
    ("post-sts-header-before", {}, "", TOKEN, "85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead"),
]

OWN = [
    ("EC2, form", "https://ec2.eu-west-1.amazonaws.com/", "eu-west-1", "ec2", {"Content-Type": FORM + "; charset=utf-8"},
     "Action=DescribeInstances&Version=2016-11-15&Filter.1.Name=tag%3Agpustrap&Filter.1.Value.1=%2A", ""),
    ("EC2, temporary keys", "https://ec2.cn-north-1.amazonaws.com.cn/", "cn-north-1", "ec2", {"Content-Type": FORM + "; charset=utf-8"},
     "Action=RunInstances&Version=2016-11-15&ClientToken=a~b-c_d.e&UserData=I2Nsb3VkLWNvbmZpZwo%3D", TOKEN),
    ("SSM, JSON", "https://ssm.us-east-1.amazonaws.com/", "us-east-1", "ssm",
     {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": "AmazonSSM.GetParameter"}, '{"Name":"/aws/service/x"}', TOKEN),
    ("a port and blanks", "http://127.0.0.1:5000/", "us-east-1", "servicequotas", {"X-Amz-Target": "  two   blanks "}, "{}", ""),
    ("an endpoint below a path", "https://cloud.example.org/services/ec2/", "us-east-1", "ec2", {}, "Action=A&Version=B", ""),
    ("bytes that are not ASCII", "https://ec2.us-east-1.amazonaws.com/", "us-east-1", "ec2", {}, "Name=%E5%8C%97%E4%BA%AC", ""),
]


def authorization(url, region, service, headers, body, token):
    request = AWSRequest(method="POST", url=url, headers=headers, data=body.encode())
    signer = botocore.auth.SigV4Auth(Credentials(ACCESS, SECRET, token or None), service, region)
    with mock.patch.object(botocore.auth, "get_current_datetime", lambda *_, **__: WHEN):
        signer.add_auth(request)
    return request.headers["Authorization"]


cases = []
for name, headers, body, token, signature in PUBLISHED:
    answer = authorization("https://example.amazonaws.com/", "us-east-1", "service", headers, body, token)
    if not answer.endswith("Signature=" + signature):
        sys.exit(f"{name}: botocore signs otherwise than the published suite: {answer}")
    cases.append({"name": "published: " + name, "url": "https://example.amazonaws.com/", "region": "us-east-1", "service": "service",
                  "headers": headers, "body": body, "token": token, "authorization": answer})
for name, url, region, service, headers, body, token in OWN:
    cases.append({"name": name, "url": url, "region": region, "service": service, "headers": headers, "body": body, "token": token,
                  "authorization": authorization(url, region, service, headers, body, token)})
json.dump({"access_key": ACCESS, "secret_key": SECRET, "time": "2015-08-30T12:36:00Z", "cases": cases}, sys.stdout, indent=1)
print()
