/**
 * The words of a command as one types them: split at spaces. A value that is put in stays whole: as a word of its
 * own, as part of one (`--ip=${address}`), or, if it is a list, as so many words.
 */
export function words(
  { raw }: TemplateStringsArray,
  ...values: readonly (string | readonly string[])[]
): readonly string[] {
  const mark = /\0(\d+)\0/g;
  const text = raw.reduce((before, part, index) => `${before}\0${index - 1}\0${part}`);
  return text
    .split(/\s+/)
    .filter((word) => word !== '')
    .flatMap((word) => {
      const alone = /^\0(\d+)\0$/.exec(word);
      if (alone !== null) return values[Number(alone[1])] ?? [];
      return word.replaceAll(mark, (_, index) => String(values[Number(index)]));
    });
}
