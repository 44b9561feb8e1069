import { spawnSync } from 'node:child_process';
import { loadavg } from 'node:os';

/**
 * Measures BGP: `node bench/bgp.ts [PART [ARGUMENTS...]]`; all parts without one. Before each part it prints the load of
 * the machine.
 */

const parts = ['render', 'load', 'latency', 'mesh'];
const [chosen, ...rest] = process.argv.slice(2);
if (chosen !== undefined && !parts.includes(chosen)) {
  process.stderr.write(`no part ${chosen}: choose ${parts.join(', ')}\n`);
  process.exit(2);
}
for (const part of chosen === undefined ? parts : [chosen]) {
  const load = loadavg().map((one) => one.toFixed(1));
  process.stdout.write(`load ${load.join(', ')}\n\n`);
  const { status } = spawnSync(
    process.execPath,
    [`${import.meta.dirname}/bgp/${part}.ts`, ...rest],
    { stdio: 'inherit' },
  );
  if (status !== 0) process.exit(1);
  process.stdout.write('\n');
}
