import { listAll, type Datastore, type KeyChange } from '../../datastore/datastore.ts';
import { dockerRoot, namespaceOfNetwork } from '../../model/kinds/docker-network.ts';
import { entryTypeOf } from '../../model/kinds/index.ts';
import { defaultNamespace } from '../../model/namespaces.ts';
import { permitNamespace } from '../auth.ts';
import type { EtcdAdmin } from './admin.ts';

/** Permits nodes to write their endpoints in namespaces, in the background. */
export interface NamespaceAccess {
  /** Returns the error with which it ended; `undefined` while it runs. */
  ended(): { readonly error: unknown } | undefined;
  stop(): void;
}

/** Starts it; it ends with the signal, too. */
export function startNamespaceAccess(
  deps: Parameters<typeof keepNamespaceAccess>[0],
  signal: AbortSignal,
): NamespaceAccess {
  const ended = new AbortController();
  const stop = AbortSignal.any([signal, ended.signal]);
  let failure: { readonly error: unknown } | undefined;
  void (async () => {
    try {
      await keepNamespaceAccess(deps, stop);
      failure = { error: new Error('the watch of networks ended') };
    } catch (error) {
      failure = { error };
    }
  })();
  return {
    ended: () => (stop.aborted ? undefined : failure),
    stop: () => ended.abort(),
  };
}

/**
 * Permits nodes to write their endpoints in the namespaces of their networks, until the signal is aborted. etcd knows
 * only ranges of keys, and keys of endpoints begin with the namespace, so each namespace needs a range of its own. A node
 * can write the record of a network in any namespace; so it decides, as with its other networks, about its own
 * endpoints only. Throws `datastore/…` and errors of etcd.
 */
async function keepNamespaceAccess(
  { datastore, admin }: { readonly datastore: Datastore; readonly admin: EtcdAdmin },
  signal: AbortSignal,
): Promise<void> {
  const permit = async (records: readonly Pick<KeyChange, 'key' | 'value'>[]): Promise<void> => {
    const named = new Map(
      records.flatMap(namespaceNamed).map((one) => [Object.values(one).join('/'), one]),
    );
    for (const { node, namespace } of named.values()) {
      await admin.auth((auth) => permitNamespace(auth, node, namespace));
    }
  };
  const { revision, items } = await listAll(datastore, dockerRoot, signal);
  await permit(items);
  for await (const { changes } of datastore.watch(dockerRoot, revision, signal)) {
    await permit(changes);
  }
}

/** Returns the node of a network and the namespace that it names, if any. */
function namespaceNamed({ key, value }: Pick<KeyChange, 'key' | 'value'>) {
  const { idOf, decode } = entryTypeOf.DockerNetwork;
  const [node] = idOf(key)?.split('/') ?? [];
  if (node === undefined || value === undefined) return [];
  try {
    const namespace = namespaceOfNetwork(decode(key, value));
    return namespace === defaultNamespace ? [] : [{ node, namespace }];
  } catch {
    // The daemon of its host reports a record that cannot be read.
    return [];
  }
}
