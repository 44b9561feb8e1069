import type { TableName } from '../../render/iptables/rule.ts';
import { hashIn } from './hash.ts';

/** One rule in the kernel: our hash, or `undefined` for a rule of another program; and its line after `-A CHAIN `. */
export interface SavedRule {
  readonly hash: string | undefined;
  readonly spec: string;
}

/** Chains by name. */
export type SavedTable = ReadonlyMap<string, readonly SavedRule[]>;

/** Parses the output of iptables-save for all tables; lines outside a table are skipped. */
export function parseSave(output: string): ReadonlyMap<TableName, SavedTable> {
  const tables = new Map<TableName, Map<string, SavedRule[]>>();
  let table = new Map<string, SavedRule[]>();
  for (const line of output.split('\n')) {
    if (line.startsWith('*')) {
      table = new Map();
      const name = line.slice(1).trim();
      if (isTableName(name)) tables.set(name, table);
    } else if (line.startsWith(':')) {
      table.set(line.slice(1, line.indexOf(' ')), []);
    } else if (line.startsWith('-A ')) {
      const end = line.indexOf(' ', 3);
      const spec = line.slice(end + 1);
      table.get(line.slice(3, end))?.push({ hash: hashIn(spec), spec });
    }
  }
  return tables;
}

/** Returns the built-in chains without rules and with policy ACCEPT, by table; also those that do not exist yet. */
export function idleChains(output: string): ReadonlyMap<string, readonly string[]> {
  return new Map(
    output
      .split(/^\*/m)
      .slice(1)
      .map((part) => {
        const [table = '', ...lines] = part.split('\n');
        const chains = lines.flatMap((line) => /^:(\S+) ACCEPT /.exec(line)?.[1] ?? []);
        const isIdle = (chain: string) => !lines.some((line) => line.startsWith(`-A ${chain} `));
        return [table.trim(), chains.filter(isIdle)] as const;
      }),
  );
}

function isTableName(name: string): name is TableName {
  return name === 'raw' || name === 'mangle' || name === 'nat' || name === 'filter';
}
