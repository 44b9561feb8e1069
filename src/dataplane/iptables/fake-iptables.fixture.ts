import { CalicoError } from '../../errors/error.ts';
import type { ToolOutput } from '../process.ts';

/** iptables-save and iptables-restore on tables in memory, of both families; it counts transactions as nf_tables does. */
export class FakeIptables {
  /** Rules by `<family> <table> <chain>`. */
  readonly chains = new Map<string, readonly string[]>();
  generation = 0;
  reads = 0;
  /** Rules with this text are refused. */
  refused: string | undefined;

  async run(
    [tool = '']: readonly string[],
    { input = '' }: { readonly input?: string },
  ): Promise<ToolOutput> {
    const family = tool.startsWith('ip6') ? '6' : '4';
    if (tool.endsWith('-save')) {
      this.reads++;
      return { stdout: this.#save(family), stderr: '' };
    }
    if (this.refused !== undefined && input.includes(this.refused)) {
      throw new CalicoError('kernel/tool-failed', { tool, status: 'status 1', why: 'refused' });
    }
    for (const part of input.split(/^\*/m).slice(1)) {
      const [table = '', ...lines] = part.split('\n');
      for (const line of lines) this.#take(`${family} ${table}`, line);
      this.generation++;
    }
    return { stdout: '', stderr: '' };
  }

  async feed(argv: readonly string[], options: { readonly input: string }): Promise<void> {
    await this.run(argv, options);
  }

  #take(table: string, line: string): void {
    const [verb = '', name = '', ...rest] = line.split(' ');
    const key = `${table} ${name}`;
    const rules = this.chains.get(key) ?? [];
    if (verb.startsWith(':')) this.chains.set(`${table} ${verb.slice(1)}`, []);
    if (verb === '-A') this.chains.set(key, [...rules, rest.join(' ')]);
    if (verb === '-X') this.chains.delete(key);
    if (verb === '-D') this.chains.set(key, rules.toSpliced(rules.indexOf(rest.join(' ')), 1));
    if (verb === '-I') {
      const [place, ...words] = rest;
      this.chains.set(key, rules.toSpliced(Number(place) - 1, 0, words.join(' ')));
    }
  }

  #save(family: string): string {
    return ['raw', 'mangle', 'nat', 'filter']
      .map((table) => {
        const prefix = `${family} ${table} `;
        const found = [...this.chains].filter(([key]) => key.startsWith(prefix));
        const named = found.map(([key, rules]) => ({ name: key.slice(prefix.length), rules }));
        return [
          `*${table}`,
          ...named.map(({ name }) => `:${name} - [0:0]`),
          ...named.flatMap(({ name, rules }) => rules.map((rule) => `-A ${name} ${rule}`)),
          'COMMIT\n',
        ].join('\n');
      })
      .join('');
  }
}
