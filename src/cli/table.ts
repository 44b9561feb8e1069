import { printable } from '../errors/printable.ts';

/** Gap between columns, as calicoctl prints. */
const gap = '   ';

/**
 * Lines of a table: the header in capitals, columns as wide as their longest cell, columns of numbers to the
 * right, no lines drawn; a cell is one line, whatever is in it. Answers text that ends with a newline.
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

/** Digits, or what `formatCount` makes of many. */
const number = /^\d+(\^\d+(-\d+)?)?$/;

const maxDigits = 10n ** 12n;

/**
 * How many of `total`, in digits; an IPv6 pool has more than anybody reads, so of a power of two beyond 10^12
 * it is written as that power, less what is missing: `2^80-3`.
 */
export function formatCount(count: bigint, total: bigint): string {
  const exponent = total.toString(2).length - 1;
  const isPower = total === 1n << BigInt(exponent);
  if (count <= maxDigits || !isPower) return count.toString();
  return count === total ? `2^${exponent}` : `2^${exponent}-${total - count}`;
}
