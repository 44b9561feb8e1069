import { ComposeProject } from '../test/lab/compose.ts';
import { startLab } from '../test/lab/network-lab.ts';
import { kindOf, median, table } from './measure.ts';

/** Measures `docker compose up` with many containers, on a bridge network and on a Calico network, in paired rounds. */

const containers = Number(process.argv[2] ?? 50);
const rounds = Number(process.argv[3] ?? 3);

await using lab = await startLab(kindOf('28.5'));
const times = { bridge: [] as number[], calico: [] as number[] };
for (let round = 0; round < rounds; round++) {
  for (const network of ['bridge', 'calico'] as const) {
    const project = await ComposeProject.make(lab, `${network}-project`, { network, containers });
    times[network].push(await project.up());
    await project.down();
  }
}
const seconds = (values: readonly number[]) => (median(values) / 1000).toFixed(1);
process.stdout.write(
  table(
    [`docker compose up, ${containers} containers`, 'seconds (median)'],
    [
      ['bridge network', seconds(times.bridge)],
      ['calico', seconds(times.calico)],
      ['ratio calico / bridge', (median(times.calico) / median(times.bridge)).toFixed(2)],
    ],
  ),
);
