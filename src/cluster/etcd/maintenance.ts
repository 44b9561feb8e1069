import { setTimeout as sleep } from 'node:timers/promises';
import { describe } from '../../errors/error.ts';
import type { EtcdAdmin, Member, MemberStatus } from './admin.ts';

/**
 * The database of etcd: its history is compacted, its file defragmented, and the alarm of a full database ended. A
 * defragmentation blocks the member, so there is one at a time, and the leader is the last.
 */

const mebibyte = 1 << 20;
/** A file of this size, in bytes, is defragmented when less than half of it is in use. */
const fileBytes = 24 * mebibyte;
/** From this size on, history older than a minute is forgotten, not only that older than etcd's own limit. */
const historyBytes = 16 * mebibyte;
const historyMs = 60_000;
/** Time for a member to respond again after it was defragmented. */
const patienceMs = 10_000;

/** Revisions at known times, to tell how old history is. */
export interface MaintenanceMemory {
  samples: { readonly at: number; readonly revision: string }[];
}

type Sized = Pick<MemberStatus, 'fileBytes' | 'usedBytes'>;

/** Reports whether the file of a member should be rewritten. */
export function isFragmented({ fileBytes: file, usedBytes }: Sized): boolean {
  return file > fileBytes && usedBytes < file / 2;
}

/** Returns the revision before which history is old enough to be forgotten; `undefined`: none, or it is small. */
export function revisionToForget(
  samples: MaintenanceMemory['samples'],
  statuses: readonly Sized[],
  now: number,
): string | undefined {
  if (!statuses.some(({ usedBytes }) => usedBytes > historyBytes)) return undefined;
  return samples.findLast(({ at }) => now - at >= historyMs)?.revision;
}

interface MaintenanceDeps {
  readonly admin: EtcdAdmin;
  readonly log: { info(event: string, fields?: Readonly<Record<string, unknown>>): void };
}

/** Does what is due. Throws errors of gRPC; what was not done is done the next time. */
export async function maintain(
  { admin, log }: MaintenanceDeps,
  memory: MaintenanceMemory,
  signal: AbortSignal,
): Promise<void> {
  const members = await admin.members();
  if ((await admin.alarms()).some(({ alarm }) => alarm === 'NOSPACE')) {
    await recoverSpace({ admin, log }, members, signal);
    return;
  }
  const statuses = (await statusOfAll(admin, members)).flatMap(({ status }) =>
    typeof status === 'string' ? [] : [status],
  );
  const now = Date.now();
  const forgotten = revisionToForget(memory.samples, statuses, now);
  if (forgotten !== undefined) await admin.compact(forgotten);
  const sample = { at: now, revision: await admin.revision() };
  const kept = memory.samples.findLastIndex(({ at }) => now - at >= historyMs);
  memory.samples = [...memory.samples.slice(Math.max(kept, 0)), sample];
  await defragment({ admin, log }, members, isFragmented, signal);
}

/** Makes room in a full database, so that etcd accepts writes again. */
async function recoverSpace(
  { admin, log }: MaintenanceDeps,
  members: readonly Member[],
  signal: AbortSignal,
): Promise<void> {
  log.info('etcd database full, making room');
  await admin.compact(await admin.revision());
  await defragment({ admin, log }, members, () => true, signal);
  for (const { member, alarm } of await admin.alarms()) {
    if (alarm === 'NOSPACE') await admin.disarmNoSpace(member);
  }
}

/** Defragments members one after the other, while all others respond. */
async function defragment(
  { admin, log }: MaintenanceDeps,
  members: readonly Member[],
  isDue: (status: Sized) => boolean,
  signal: AbortSignal,
): Promise<void> {
  const all = await statusOfAll(admin, members);
  const isLeader = ({ member, status }: (typeof all)[number]) =>
    typeof status !== 'string' && status.leader === member.id;
  for (const { member, status } of all.toSorted(
    (a, b) => Number(isLeader(a)) - Number(isLeader(b)),
  )) {
    if (typeof status === 'string' || !isDue(status)) continue;
    const others = await statusOfAll(admin, members);
    const down = others.find((one) => typeof one.status === 'string');
    // The rest would have no majority while this one is blocked.
    if (down !== undefined && members.length > 1) return;
    signal.throwIfAborted();
    await admin.defragment(member);
    const end = Date.now() + patienceMs;
    let after = await admin.status(member);
    while (typeof after === 'string' && Date.now() < end) {
      await sleep(100);
      after = await admin.status(member);
    }
    log.info('etcd member defragmented', {
      member: member.name,
      bytesBefore: status.fileBytes,
      ...(typeof after === 'string' ? { why: describe(after) } : { bytesAfter: after.fileBytes }),
    });
  }
}

function statusOfAll(admin: EtcdAdmin, members: readonly Member[]) {
  return Promise.all(
    members.map(async (member) => ({ member, status: await admin.status(member) })),
  );
}
