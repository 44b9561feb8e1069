import { spawnSync } from 'node:child_process';
import { loadavg } from 'node:os';

/**
 * Measures what depends on the number of hosts: `node bench/hosts.ts [PART [ARGUMENTS...]]`; all parts without one.
 * Before each part it prints the load of the machine.
 */

const parts: Readonly<Record<string, readonly (readonly string[])[]>> = {
  routes: [['hosts/routes.ts']],
  allocations: [['hosts/allocations.ts']],
  start: [['hosts/start.ts']],
  traffic: [['hosts/traffic.ts']],
  // The difference is that of the endpoints.
  memory: [
    ['cache.ts', '1000', '20', '1000'],
    ['cache.ts', '100000', '20', '1000'],
  ],
};

const [chosen, ...rest] = process.argv.slice(2);
const runs = chosen === undefined ? Object.values(parts).flat() : parts[chosen];
if (runs === undefined) {
  process.stderr.write(`no part ${chosen}: choose ${Object.keys(parts).join(', ')}\n`);
  process.exit(2);
}
for (const [file = '', ...argv] of runs) {
  process.stdout.write(
    `load ${loadavg()
      .map((load) => load.toFixed(1))
      .join(', ')}\n\n`,
  );
  const given = rest.length > 0 ? rest : argv;
  const { status } = spawnSync(process.execPath, [`${import.meta.dirname}/${file}`, ...given], {
    stdio: 'inherit',
  });
  if (status !== 0) process.exit(1);
  process.stdout.write('\n');
}
