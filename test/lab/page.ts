import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { checkout } from './built.ts';

/** A command that a page shows, and the output that it shows of it. */
interface PageCommand {
  readonly section: string;
  /** The block of the page that contains it. */
  readonly block: number;
  readonly line: number;
  readonly text: string;
  readonly shows: readonly string[];
}

/**
 * A page of documentation whose commands a test runs, block by block and in their order. Its indented blocks
 * are commands: each line one, or, where lines begin with `# `, those, and the others are what they print; in
 * that, `…` stands for anything and the number of spaces does not matter. A `\` at a line's end continues it.
 * A block fenced as `text` that follows a block of commands is what the last of them prints. Other fenced blocks are
 * files and other things to read.
 */
export class Page {
  readonly #name: string;
  readonly #left: PageCommand[];
  readonly #read: (text: string) => string;

  /** `read` is how the reader understands commands and outputs: with a value in the place of a word, say. */
  constructor(name: string, read: (text: string) => string = (text) => text) {
    this.#name = name;
    this.#read = read;
    this.#left = [...commandsOf(readFileSync(`${checkout}/${name}`, 'utf8'))];
  }

  /** Runs the next block of commands below a heading, by a shell that answers what a command printed. */
  async run(section: string, shell: (command: string) => Promise<string>): Promise<void> {
    const next = this.#left.find((command) => command.section === section);
    assert.ok(next !== undefined, `${this.#name} has no more commands below "${section}"`);
    const commands = this.#left.filter(({ block }) => block === next.block);
    for (const command of commands) {
      this.#left.splice(this.#left.indexOf(command), 1);
      const printed = await shell(this.#read(command.text));
      if (command.shows.length === 0) continue;
      const shown = this.#read(command.shows.join('\n'));
      const where = `${this.#name}:${command.line}`;
      assert.match(`${printed.trimEnd()}\n`, patternOf(shown), `${where} shows something else`);
    }
  }

  /** Asserts that each command of the page has been run. */
  assertAllWasRun(): void {
    const left = this.#left.map(({ line, text }) => `${this.#name}:${line}: ${text}`);
    assert.deepEqual(left, []);
  }
}

/** Returns the block of a page that is fenced with a word: a file that the page shows. */
export function fenced(name: string, word: string): string {
  const page = readFileSync(`${checkout}/${name}`, 'utf8');
  return page.split(`\`\`\`${word}\n`)[1]?.split('```')[0] ?? assert.fail(`no ${word} in ${name}`);
}

/** The commands of each block of a page, for a test that runs them in an order and on hosts of its own choice. */
export function commandBlocks(name: string): readonly (readonly string[])[] {
  const commands = commandsOf(readFileSync(`${checkout}/${name}`, 'utf8'));
  return [...Map.groupBy(commands, ({ block }) => block).values()].map((block) =>
    block.map(({ text }) => text),
  );
}

interface Block {
  readonly section: string;
  readonly lines: { readonly line: number; readonly text: string }[];
  /** The output of the last command, if it is in its own fenced block. */
  readonly output: string[];
}

function commandsOf(page: string): readonly PageCommand[] {
  return blocksOf(page).flatMap(commandsOfBlock);
}

function blocksOf(page: string): readonly Block[] {
  const blocks: Block[] = [];
  let section = '';
  let isFenced = false;
  let output: string[] | undefined;
  let block: Block | undefined;
  for (const [index, text] of page.split('\n').entries()) {
    const isIndented = !isFenced && text.startsWith('    ');
    if (text.startsWith('```')) {
      isFenced = !isFenced;
      output = text === '```text' ? blocks.at(-1)?.output : undefined;
    } else if (isFenced) output?.push(text);
    if (isIndented && block === undefined)
      blocks.push((block = { section, lines: [], output: [] }));
    if (isIndented || (block !== undefined && text === '')) {
      block?.lines.push({ line: index + 1, text: text.slice(4) });
      continue;
    }
    block = undefined;
    if (!isFenced) section = /^#+ (.*)$/.exec(text)?.[1] ?? section;
  }
  return blocks;
}

function commandsOfBlock({ section, lines, output }: Block, block: number): readonly PageCommand[] {
  const hasPrompts = lines.some(({ text }) => text.startsWith('# '));
  const commands: { line: number; text: string; shows: string[] }[] = [];
  for (const { line, text } of lines) {
    const last = commands.at(-1);
    if (last?.shows.length === 0 && last.text.endsWith('\\')) last.text += `\n${text}`;
    else if (hasPrompts && !text.startsWith('# ')) last?.shows.push(text);
    else if (text !== '')
      commands.push({ line, text: hasPrompts ? text.slice(2) : text, shows: [] });
  }
  commands.at(-1)?.shows.push(...output);
  return commands.map(({ shows, ...command }) => ({
    ...command,
    section,
    block,
    shows: withoutLastEmpty(shows),
  }));
}

function withoutLastEmpty(lines: readonly string[]): readonly string[] {
  return lines.slice(0, lines.findLastIndex((line) => line !== '') + 1);
}

function patternOf(shown: string): RegExp {
  const lines = shown.split('\n').map((line) =>
    line
      .trim()
      .replaceAll(/[.*+?^${}()|[\]\\]/g, String.raw`\$&`)
      .replaceAll(/ +/g, ' +')
      .replaceAll('…', '.*'),
  );
  // A line of nothing but `…` stands for any number of lines.
  const body = lines.map((line) => (line === '.*' ? '(?:.*\\n)*?' : ` *${line} *\\n`)).join('');
  return new RegExp(`^${body}$`);
}
