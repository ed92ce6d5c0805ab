"""Declared types as JSON Schema, with the doc comments that models read."""

from __future__ import annotations

from typing import Any

from jamjet_dsl import definition as d

_PLAIN: dict[str, dict[str, Any]] = {
    "bool": {"type": "boolean"},
    "int": {"type": "integer"},
    "uint": {"type": "integer", "minimum": 0},
    "float": {"type": "number"},
    "string": {"type": "string"},
    "bytes": {"type": "string", "contentEncoding": "base64"},
    "decimal": {"type": "string", "description": "an exact decimal number, like 12.50"},
    "duration": {"type": "string", "description": 'a duration in seconds, like "90s"'},
    "timestamp": {"type": "string", "format": "date-time"},
    "any": {},
    "null": {"type": "null"},
}


def schema_of(type: d.Type, definition: d.Definition) -> dict[str, Any]:
    """The JSON Schema of a type. Records are written out where they are used: they never contain themselves."""
    match type:
        case d.Scalar():
            return _scalar(type)
        case d.MoneyType():
            currency = type.currency or "USD"
            return {"type": "string", "description": f'an amount of money, like "12.50 {currency}"'}
        case d.ListType():
            bounds = {"minItems": type.low, "maxItems": type.high}
            found = {"type": "array", "items": schema_of(type.item, definition)}
            return found | {name: bound for name, bound in bounds.items() if bound is not None}
        case d.MapType():
            return {"type": "object", "additionalProperties": schema_of(type.value, definition)}
        case d.RecordType():
            record = definition.records[type.name]
            return object_of(record.fields, definition, record.doc)
        case d.EnumType():
            return {"type": "string", "enum": list(definition.enums[type.name].members)}
        case d.OptionalType():
            return {"anyOf": [schema_of(type.item, definition), {"type": "null"}]}
        case d.SecretType():
            return schema_of(type.item, definition)
        case d.ObjectType():
            fields = tuple(d.FieldDef(name=name, type=field) for name, field in type.fields.items())
            return object_of(fields, definition)
        case d.BuiltinType():
            return {"type": "array"} if type.kind == "conversation" else {"type": "object"}


def object_of(fields: tuple[d.FieldDef, ...], definition: d.Definition, doc: str | None = None) -> dict[str, Any]:
    """The schema of an object with these fields; optional ones need not be there."""
    properties = {}
    for field in fields:
        schema = schema_of(field.type, definition)
        if field.doc:
            schema = {**schema, "description": field.doc}
        properties[field.name] = schema
    found: dict[str, Any] = {
        "type": "object",
        "properties": properties,
        "required": [f.name for f in fields if not isinstance(f.type, d.OptionalType)],
        "additionalProperties": False,
    }
    return {**found, "description": doc} if doc else found


def _scalar(type: d.Scalar) -> dict[str, Any]:
    schema = dict(_PLAIN[type.kind])
    if type.kind in ("int", "uint", "float"):
        if type.low is not None:
            schema["minimum"] = type.low
        if type.high is not None:
            schema["maximum"] = type.high
    elif type.low is not None or type.high is not None:
        bounds = f"from {type.low}" if type.high is None else f"up to {type.high}"
        if type.low is not None and type.high is not None:
            bounds = f"from {type.low} to {type.high}"
        schema["description"] = f"{schema.get('description', type.kind)}, {bounds}"
    return schema
