/** Checks of parsed JSON for decoders without a schema. */

export type Fields = Readonly<Record<string, unknown>>;

/** Returns the fields of an object; no fields for any other value. */
export function fieldsOf(value: unknown): Fields {
  return isFields(value) ? value : {};
}

export function isFields(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

export function isTextOrAbsent(value: unknown): value is string | undefined {
  return value === undefined || typeof value === 'string';
}

export function areTextsOrAbsent(value: unknown): value is Record<string, string> | undefined {
  if (value === undefined) return true;
  if (!isFields(value)) return false;
  for (const key in value) if (typeof value[key] !== 'string') return false;
  return true;
}
