import { z } from 'zod';
import { runInDaemon } from '../moving/request.ts';

/** The request to the daemon of this host to go on without its cluster, from what it knows. */

/** What a host has kept that left its cluster without it. */
const lonely = z.object({
  /** Networks and endpoints of this host, which it keeps. */
  networks: z.number(),
  containers: z.number(),
  /** What it does not keep: the other nodes of the cluster, and the number of their endpoints. */
  otherNodes: z.array(z.string()),
  otherContainers: z.number(),
  /** When this host read the datastore last, if its daemon has started since; RFC 3339. */
  savedAt: z.exactOptional(z.string()),
});

const leaveResult = z.discriminatedUnion('kind', [
  lonely.extend({ kind: z.literal('left') }),
  /** The daemon uses the datastore of this host already. */
  z.object({ kind: z.literal('left before') }),
  /** The daemon knows nothing of the cluster. */
  z.object({ kind: z.literal('nothing known') }),
]);

export type LeaveResult = z.infer<typeof leaveResult>;

/** The path on the daemon's control socket. */
export const leavePath = '/cluster/leave';

/**
 * Lets the daemon of this host go over to a datastore of its own, which has what the host knows of its cluster, while
 * containers run. Repeatable. Throws `cli/not-running`, or `datastore/not-moved` with the sentence of the daemon; then
 * the host continues as before.
 */
export function requestLeave(
  socketPath: string,
  onProgress: (line: string) => void,
): Promise<LeaveResult> {
  return runInDaemon(socketPath, { path: leavePath, body: {}, result: leaveResult }, onProgress);
}
