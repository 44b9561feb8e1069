/** Gap between columns, as calicoctl prints. */
const gap = 3;

/**
 * Lines of a table: the header in capitals, columns as wide as their longest cell, no lines drawn. Answers
 * text that ends with a newline.
 */
export function formatTable(
  header: readonly string[],
  rows: readonly (readonly string[])[],
): string {
  const lines = [header.map((cell) => cell.toUpperCase()), ...rows];
  const widths = header.map((_, column) =>
    Math.max(...lines.map((cells) => (cells[column] ?? '').length)),
  );
  return lines
    .map((cells) =>
      cells
        .map((cell, column) => cell.padEnd((widths[column] ?? 0) + gap))
        .join('')
        .trimEnd(),
    )
    .map((line) => `${line}\n`)
    .join('');
}
