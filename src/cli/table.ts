import { printable } from '../errors/printable.ts';

/** Gap between columns, as in calicoctl. */
const gap = '   ';

/**
 * Formats a table: header in capitals, columns as wide as their longest cell, numeric columns aligned right, no borders;
 * special characters are escaped, so that a row is one line. Returns text that ends with a newline.
 */
export function formatTable(
  header: readonly string[],
  given: readonly (readonly string[])[],
): string {
  const rows = given.map((cells) => cells.map(printable));
  const lines = [header.map((cell) => cell.toUpperCase()), ...rows];
  const columns = header.map((_, column) => {
    const cells = rows.map((row) => row[column] ?? '');
    return {
      width: Math.max(...lines.map((line) => (line[column] ?? '').length)),
      isNumeric: cells.length > 0 && cells.every((cell) => number.test(cell)),
    };
  });
  return lines
    .map((line) =>
      columns
        .map(({ width, isNumeric }, column) => {
          const cell = line[column] ?? '';
          return isNumeric ? cell.padStart(width) : cell.padEnd(width);
        })
        .join(gap)
        .trimEnd(),
    )
    .map((line) => `${line}\n`)
    .join('');
}

/** Digits, or a large number as `formatCount` writes it. */
const number = /^\d+(\^\d+(-\d+)?)?$/;

const maxDigits = 10n ** 12n;

/**
 * Formats a count of `total`. A count above 10^12 of a power of two (an IPv6 pool) is written as that power minus the
 * rest: `2^80-3`.
 */
export function formatCount(count: bigint, total: bigint): string {
  const exponent = total.toString(2).length - 1;
  const isPower = total === 1n << BigInt(exponent);
  if (count <= maxDigits || !isPower) return count.toString();
  return count === total ? `2^${exponent}` : `2^${exponent}-${total - count}`;
}
