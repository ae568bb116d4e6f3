import os


def main(event, context):
    """Greets whom the event names: {"name": "Ada"}, a JSON string, or plain text."""
    if isinstance(event, bytes):
        event = event.decode("utf-8").strip()
    name = event.get("name") if isinstance(event, dict) else event
    greeting = f"{os.environ.get('GREETING', 'Hello')}, {name or 'world'}!"
    print(greeting)  # to the function's log: brood logs hello
    return {"greeting": greeting, "invocation": context.id, "milliseconds_left": context.remaining_ms()}
