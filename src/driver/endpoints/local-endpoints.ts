import type { EntryChange, Mirror } from '../../cache/mirror.ts';
import { IdsByKey } from '../../model/ids-by-key.ts';
import { annotation, type WorkloadEndpoint } from '../../model/kinds/workload-endpoint.ts';

/** An index of this host's endpoints, so that others need not be scanned. */
export interface LocalEndpoints {
  /** IDs of the endpoints of one container. */
  readonly ofSandbox: (sandbox: string) => readonly string[];
  /** IDs of the endpoints of a container, by Docker's container ID. */
  readonly ofContainer: (containerId: string) => readonly string[];
  /** IDs of the endpoints in quarantine. */
  readonly quarantined: () => readonly string[];
  /** All IDs. */
  readonly all: () => readonly string[];
}

/** Maintains the index from now on, as long as the mirror lives. */
export function indexLocalEndpoints(mirror: Mirror, node: string): LocalEndpoints {
  const all = new Set<string>();
  const waiting = new Set<string>();
  const bySandbox = new IdsByKey();
  const byContainer = new IdsByKey();

  const forget = (id: string, endpoint: WorkloadEndpoint) => {
    all.delete(id);
    waiting.delete(id);
    bySandbox.remove(annotation(endpoint, 'sandbox'), id);
    byContainer.remove(endpoint.spec.containerID, id);
  };
  const learn = (id: string, endpoint: WorkloadEndpoint) => {
    all.add(id);
    if (annotation(endpoint, 'quarantine') !== undefined) waiting.add(id);
    bySandbox.add(annotation(endpoint, 'sandbox'), id);
    byContainer.add(endpoint.spec.containerID, id);
  };
  mirror.subscribe(({ changes }) => {
    for (const change of changes) {
      if (!isLocalEndpoint(change, node)) continue;
      if (change.before !== undefined) forget(change.id, change.before.value);
      if (change.now !== undefined) learn(change.id, change.now.value);
    }
  });

  return {
    ofSandbox: (sandbox) => [...bySandbox.ids(sandbox)],
    ofContainer: (containerId) => [...byContainer.ids(containerId)],
    quarantined: () => [...waiting],
    all: () => [...all],
  };
}

function isLocalEndpoint(
  change: EntryChange,
  node: string,
): change is Extract<EntryChange, { kind: 'WorkloadEndpoint' }> {
  return (
    change.kind === 'WorkloadEndpoint' &&
    (change.now?.value.spec.node === node || change.before?.value.spec.node === node)
  );
}
