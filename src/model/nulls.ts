import { z } from 'zod';

/**
 * `null` as Go reads it. A field of a structure that is `null` is as if it were absent; the value of a map that
 * is `null` is the empty value (`""`, 0), its key is there. Fields that we do not know are kept as they are.
 * Source: Go, encoding/json, Unmarshal.
 */

/**
 * The value without those fields that are `null` and that a schema knows. Where Calico itself writes `null`, the
 * schema takes it, and it stays.
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

/** A map whose values are `null` have the empty value of their type. */
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

/** What a schema checks in the end, without what makes it optional or changes its type. */
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
