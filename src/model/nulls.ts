import { z } from 'zod';

/**
 * `null` as Go reads it. A field of a structure that is `null` counts as absent; the value of a map that is `null` is
 * the empty value (`""`, 0), and its key exists. Unknown fields are kept unchanged. Source: Go, encoding/json,
 * Unmarshal.
 */

/**
 * Returns the value without those fields that are `null` and known to a schema. If Calico itself writes `null`, the
 * schema accepts it, and it stays.
 */
export function withoutNullFields(schema: z.core.$ZodType, value: unknown): unknown {
  const inner = unwrapped(schema);
  if (inner instanceof z.ZodArray && Array.isArray(value)) {
    const elements: readonly unknown[] = value;
    return elements.map((element) => withoutNullFields(inner.element, element));
  }
  if (!(inner instanceof z.ZodObject) || typeof value !== 'object' || value === null) return value;
  const shape: Readonly<Record<string, z.core.$ZodType>> = inner.shape;
  const fields: [string, unknown][] = [];
  for (const [key, field] of Object.entries(value)) {
    const known = Object.hasOwn(shape, key) ? shape[key] : undefined;
    if (known === undefined) fields.push([key, field]);
    else if (field !== null || takesNull(known))
      fields.push([key, withoutNullFields(known, field)]);
  }
  return Object.fromEntries(fields);
}

/** Replaces `null` values of a map by the empty value of their type. */
export function mapOf<Key extends z.core.$ZodRecordKey, Value extends z.ZodType>(
  key: Key,
  value: Value,
  empty: z.output<Value>,
) {
  const valueOrEmpty = z.union([value, z.null().transform((): z.output<Value> => empty)]);
  return z.record(key, valueOrEmpty);
}

function takesNull(schema: z.core.$ZodType): boolean {
  return z.safeParse(schema, null).success;
}

/** Returns the inner schema, without wrappers that make it optional or change its type. */
export function unwrapped(schema: z.core.$ZodType): z.core.$ZodType {
  if (
    schema instanceof z.ZodExactOptional ||
    schema instanceof z.ZodOptional ||
    schema instanceof z.ZodPrefault ||
    schema instanceof z.ZodNullable
  ) {
    return unwrapped(schema.unwrap());
  }
  return schema instanceof z.ZodPipe ? unwrapped(schema.in) : schema;
}
