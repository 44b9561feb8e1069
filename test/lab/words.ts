/**
 * Splits a command at spaces into arguments. An interpolated value is not split: it is an argument, a part of one
 * (`--ip=${address}`) or, if it is a list, one argument per element.
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
