/** Returns the names in a comma-separated list, as options of Docker have them; empty ones are left out. */
export function namesInList(text: string): string[] {
  return text
    .split(',')
    .map((name) => name.trim())
    .filter((name) => name !== '');
}
