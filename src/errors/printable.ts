/** Control characters, line separators, and the marks that turn the direction of text (UAX #9). */
const unprintable = /[\p{Cc}\p{Zl}\p{Zp}\p{Bidi_Control}]/gu;

const short: Readonly<Record<string, string>> = {
  '\n': String.raw`\n`,
  '\r': String.raw`\r`,
  '\t': String.raw`\t`,
};

/**
 * A name that others chose as one line for a terminal: what would break a table, or what a terminal acts upon, is
 * written as JavaScript and JSON escape it.
 */
export function printable(text: string): string {
  return text.replaceAll(
    unprintable,
    (character) =>
      short[character] ?? String.raw`\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

/** The beginning of a text that may be of any length, for a sentence that must stay readable. */
export function shortened(text: string, most = 80): string {
  return text.length <= 2 * most ? text : `${text.slice(0, most)}…`;
}
