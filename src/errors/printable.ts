/** Control characters, line separators, and bidirectional formatting characters (UAX #9). */
const unprintable = /[\p{Cc}\p{Zl}\p{Zp}\p{Bidi_Control}]/gu;

const short: Readonly<Record<string, string>> = {
  '\n': String.raw`\n`,
  '\r': String.raw`\r`,
  '\t': String.raw`\t`,
};

/**
 * Returns untrusted text as one line for a terminal. Characters that would break a table or control the terminal are
 * escaped as in JavaScript and JSON.
 */
export function printable(text: string): string {
  return text.replaceAll(
    unprintable,
    (character) =>
      short[character] ?? String.raw`\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

/** Returns the text truncated to `most` characters if it is longer than twice that. */
export function shortened(text: string, most = 80): string {
  return text.length <= 2 * most ? text : `${text.slice(0, most)}…`;
}
