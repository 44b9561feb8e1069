/** Annotation of resources that `calico-cnm policy` writes: the command without its order. */
export const createdBy = 'docker.projectcalico.org/created-by';

/** Returns a command in one line, quoted for a shell. */
export function commandLine(words: readonly string[]): string {
  return words.map((word) => (/^[\w.:/,=!@%+-]+$/.test(word) ? word : quoted(word))).join(' ');
}

function quoted(word: string): string {
  return word.includes("'") ? `"${word}"` : `'${word}'`;
}
