import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import { replaceFile } from '../../async/replace-file.ts';
import { saveOnChange } from '../../async/save-on-change.ts';
import type { Work } from '../../async/supervise.ts';
import type { EntryChange, Mirror } from '../../cache/mirror.ts';
import { describe, hasErrorCode } from '../../errors/error.ts';
import { address } from '../../model/fields.ts';
import {
  annotation,
  containerName,
  dockerAddresses,
  type WorkloadEndpoint,
} from '../../model/kinds/workload-endpoint.ts';
import type { LastAddress, LastAddresses } from '../docker/last-addresses.ts';

/**
 * Keeps a file on this host of the last address of every container. It concerns this host's Docker alone and is only
 * a preference. Entries missing from the file, for example after a crash, come from the endpoints in the datastore.
 */

const fileFormat = z.object({
  format: z.literal(1),
  addresses: z.array(
    z.object({ address, network: z.string(), container: z.string(), containerId: z.string() }),
  ),
});

/** Delay between a change and saving the file, in milliseconds. */
const settleMs = 1000;

/** Reads the file; empty if it does not exist. A damaged file is reported by `warn` and ignored. */
export async function readLastAddresses(
  file: string,
  warn: (text: string) => void,
): Promise<readonly LastAddress[]> {
  try {
    return fileFormat.parse(JSON.parse(await readFile(file, 'utf8'))).addresses;
  } catch (error) {
    if (!hasErrorCode(error, 'ENOENT'))
      warn(`cannot read last addresses ${file} (${describe(error)}); starting with none`);
    return [];
  }
}

/** Follows the endpoints of this host from now on; returns a function that stops it. */
export function followLastAddresses(
  {
    mirror,
    node,
    last,
  }: { readonly mirror: Mirror; readonly node: string; readonly last: LastAddresses },
  onChange: () => void,
): () => void {
  return mirror.subscribe(({ changes }) => {
    const own = changes.filter((change) => isOwnEndpoint(change, node));
    for (const { before, now } of own) {
      if (before === undefined || now !== undefined) continue;
      for (const freed of dockerAddresses(before.value)) last.freed(freed);
    }
    for (const { now } of own) if (now !== undefined) learn(mirror, last, now.value);
    if (own.length > 0) onChange();
  });
}

function learn(mirror: Mirror, last: LastAddresses, endpoint: WorkloadEndpoint): void {
  const { containerID: containerId, node } = endpoint.spec;
  const container = containerName(endpoint);
  const networkId = annotation(endpoint, 'network');
  if (container === undefined || containerId === undefined || networkId === undefined) return;
  const network = mirror.get('DockerNetwork', `${node}/${networkId}`)?.value.name ?? networkId;
  // Extra addresses are not allocated by Docker, so Docker must not get them for the next start.
  for (const used of dockerAddresses(endpoint)) {
    last.used({ address: used, network, container, containerId });
  }
}

/** Saves the file after every change until the signal is aborted, then once more if there are unsaved changes. */
export async function keepLastAddresses(
  options: {
    readonly mirror: Mirror;
    readonly node: string;
    readonly last: LastAddresses;
    readonly file: string;
    readonly work: Work;
  },
  signal: AbortSignal,
): Promise<void> {
  const { last, file, work } = options;
  await saveOnChange(
    {
      // After a restart a change may have been missed.
      isChanged: true,
      settleMs,
      // The file is small: a save is slow only if the disk is, and the next one must not come too late for a crash.
      maxShare: 0.5,
      subscribe: (changed) => followLastAddresses(options, changed),
      save: () => saveLastAddresses(file, last.all()),
      work,
    },
    signal,
  );
}

async function saveLastAddresses(file: string, addresses: readonly LastAddress[]): Promise<void> {
  await replaceFile(file, { mode: 0o600, folderMode: 0o700 }, async (target) => {
    await target.write(`${JSON.stringify({ format: 1, addresses })}\n`);
  });
}

function isOwnEndpoint(
  change: EntryChange,
  node: string,
): change is Extract<EntryChange, { kind: 'WorkloadEndpoint' }> {
  return (
    change.kind === 'WorkloadEndpoint' &&
    (change.now?.value.spec.node ?? change.before?.value.spec.node) === node
  );
}
