import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { ComposeProject } from '../test/lab/compose.ts';
import { startLab } from '../test/lab/network-lab.ts';
import { kindOf, table } from './measure.ts';

/**
 * The idle daemon with many containers: CPU time, disk writes, wake-ups, and memory (resident, and the anonymous part,
 * which the kernel cannot reclaim).
 */

const containers = Number(process.argv[2] ?? 100);
const seconds = Number(process.argv[3] ?? 60);
/** The kernel's unit of processor times: USER_HZ. */
const ticksPerSecond = 100;

await using lab = await startLab(kindOf('28.5', process.argv[4], process.argv[5]));
const project = await ComposeProject.make(lab, 'idle', { network: 'calico', containers });
await project.up();
// From here on the daemon receives no requests.
const inside = await lab.host.run([
  'sh',
  '-c',
  "for p in /proc/[0-9]*; do tr '\\0' ' ' <$p/cmdline 2>/dev/null | grep -q '[m]ain\\.js run' && basename $p; done; true",
]);
const daemon = lab.host.path(`/proc/${inside.split('\n')[0] ?? ''}`);
await sleep(40_000);
const before = look();
await sleep(seconds * 1000);
const after = look();
const perSecond = (name: keyof Look) => (after[name] - before[name]) / seconds;
await project.down();
process.stdout.write(
  table(
    [`idle with ${containers} containers, ${seconds} s`, ''],
    [
      ['CPU (% of one core)', ((perSecond('ticks') / ticksPerSecond) * 100).toFixed(2)],
      ['bytes written to disk', String(after.diskBytes - before.diskBytes)],
      ['write calls per second', perSecond('writes').toFixed(1)],
      ['wake-ups per second', perSecond('switches').toFixed(1)],
      ['resident memory (MB)', (after.residentKb / 1000).toFixed(0)],
      ['anonymous memory (MB)', (after.anonymousKb / 1000).toFixed(0)],
    ],
  ),
);

interface Look {
  readonly ticks: number;
  readonly diskBytes: number;
  readonly writes: number;
  readonly switches: number;
  readonly residentKb: number;
  readonly anonymousKb: number;
}

function look(): Look {
  const stat = readFileSync(`${daemon}/stat`, 'utf8')
    .replace(/^.*\) /, '')
    .split(' ');
  const io = readFileSync(`${daemon}/io`, 'utf8');
  const status = readFileSync(`${daemon}/status`, 'utf8');
  const number = (text: string, name: string) =>
    Number(new RegExp(`^${name}:\\s*(\\d+)`, 'm').exec(text)?.[1]);
  return {
    ticks: Number(stat[11]) + Number(stat[12]),
    diskBytes: number(io, 'write_bytes'),
    writes: number(io, 'syscw'),
    switches: number(status, 'voluntary_ctxt_switches'),
    residentKb: number(status, 'VmRSS'),
    anonymousKb: number(status, 'RssAnon'),
  };
}
