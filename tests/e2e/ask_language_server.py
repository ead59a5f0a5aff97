#!/usr/bin/env python3
"""Asks a YAML language server, over its standard streams, as an editor does:

    ask_language_server.py SERVER SCHEMA FILE LINE COLUMN

SERVER is the program's JavaScript, SCHEMA the JSON Schema for the file. Lines and columns begin with 1. Prints one JSON document:
{"complete": [labels], "hover": text, "problems": ["LINE: message"]}.
"""
import json
import pathlib
import subprocess
import sys


class Server:
    def __init__(self, program):
        self.process = subprocess.Popen(["node", program, "--stdio"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.number = 0

    def send(self, message):
        text = json.dumps({"jsonrpc": "2.0", **message}).encode()
        self.process.stdin.write(b"Content-Length: %d\r\n\r\n%s" % (len(text), text))
        self.process.stdin.flush()

    def receive(self):
        length = 0
        while (line := self.process.stdout.readline().strip()):
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        if length == 0:
            sys.exit("the language server has ended")
        return json.loads(self.process.stdout.read(length))

    def until(self, is_wanted):
        """Answers what the server itself asks meanwhile: it may want settings that nobody has made."""
        while True:
            message = self.receive()
            if "method" in message and "id" in message:
                items = message.get("params", {}).get("items", []) if message["method"] == "workspace/configuration" else []
                self.send({"id": message["id"], "result": [SETTINGS.get(item.get("section")) for item in items] if items else None})
            elif is_wanted(message):
                return message

    def ask(self, method, params):
        self.number += 1
        number = self.number
        self.send({"id": number, "method": method, "params": params})
        return self.until(lambda message: message.get("id") == number and "method" not in message).get("result")

    def tell(self, method, params):
        self.send({"method": method, "params": params})


SETTINGS = {}


def main():
    program, schema, file, line, column = sys.argv[1:]
    text = pathlib.Path(file).read_text(encoding="utf-8")
    uri = pathlib.Path(file).resolve().as_uri()
    SETTINGS["yaml"] = {"schemas": {pathlib.Path(schema).resolve().as_uri(): "/*"}, "validate": True, "completion": True, "hover": True,
                        "schemaStore": {"enable": False}}
    server = Server(program)
    server.ask("initialize", {"processId": None, "rootUri": None, "capabilities": {
        "workspace": {"configuration": True, "didChangeConfiguration": {}},
        "textDocument": {"completion": {"completionItem": {"snippetSupport": True}}, "hover": {"contentFormat": ["markdown"]}}}})
    server.tell("initialized", {})
    server.tell("workspace/didChangeConfiguration", {"settings": SETTINGS})
    server.tell("textDocument/didOpen", {"textDocument": {"uri": uri, "languageId": "yaml", "version": 1, "text": text}})
    problems = server.until(lambda message: message.get("method") == "textDocument/publishDiagnostics")["params"]["diagnostics"]
    place = {"textDocument": {"uri": uri}, "position": {"line": int(line) - 1, "character": int(column) - 1}}
    hover = server.ask("textDocument/hover", place)
    completion = server.ask("textDocument/completion", place)
    items = completion["items"] if isinstance(completion, dict) else completion or []
    contents = (hover or {}).get("contents", "")
    print(json.dumps({"complete": sorted(item["label"] for item in items),
                      "hover": contents if isinstance(contents, str) else contents.get("value", ""),
                      "problems": [f'{one["range"]["start"]["line"] + 1}: {one["message"]}' for one in problems]}, ensure_ascii=False))
    server.process.kill()


if __name__ == "__main__":
    main()
