import { spawnSync } from 'node:child_process';
import { loadavg } from 'node:os';

/**
 * Measures policy with many endpoints and policies: `node bench/policy.ts [PART [ARGUMENTS...]]`; all parts without one.
 * Before each part it prints the load of the machine.
 */

const parts: Readonly<Record<string, readonly (readonly string[])[]>> = {
  start: [
    ['start.ts', 'tags', '10000', '1000'],
    ['start.ts', 'tags', '10000', '10000'],
    ['start.ts', 'tags', '50000', '1000'],
    ['start.ts', 'tags', '50000', '10000'],
    ['start.ts', 'tags', '250000', '1000'],
    ['start.ts', 'tags', '250000', '10000'],
    ['start.ts', 'sets', '10000', '1000'],
    ['start.ts', 'sets', '10000', '10000'],
  ],
  restore: [
    ['restore.ts', 'nft'],
    ['restore.ts', 'legacy'],
  ],
  change: [
    ['change.ts', 'nft'],
    ['change.ts', 'legacy'],
  ],
};

const [chosen, ...rest] = process.argv.slice(2);
const runs = chosen === undefined ? Object.values(parts).flat() : parts[chosen];
if (runs === undefined) {
  process.stderr.write(`no part ${chosen}: choose ${Object.keys(parts).join(', ')}\n`);
  process.exit(2);
}
for (const [file = '', ...given] of rest.length > 0 ? runs.slice(0, 1) : runs) {
  process.stdout.write(
    `load ${loadavg()
      .map((load) => load.toFixed(1))
      .join(', ')}\n\n`,
  );
  const { status } = spawnSync(
    process.execPath,
    ['--expose-gc', `${import.meta.dirname}/policy/${file}`, ...(rest.length > 0 ? rest : given)],
    { stdio: 'inherit' },
  );
  if (status !== 0) process.exit(1);
  process.stdout.write('\n');
}
