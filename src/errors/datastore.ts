import { entry } from './spec.ts';

/** Errors of etcd and of the SQLite file. */
export const datastoreErrors = {
  'datastore/unavailable': entry(
    'unavailable',
    (d: { endpoint: string; why: string }) =>
      `datastore ${d.endpoint} is unavailable (${d.why}); check that it is running and reachable`,
  ),
  'datastore/refused': entry(
    'unavailable',
    (d: { endpoint: string; why: string }) => `cannot connect to datastore ${d.endpoint}: ${d.why}`,
  ),
  'datastore/denied': entry(
    'state',
    (d: { endpoint: string; what: string; remedy: string }) =>
      `permission denied on datastore ${d.endpoint}: this host cannot write ${d.what}; ${d.remedy}`,
  ),
  'datastore/bad-file': entry(
    'state',
    (d: { file: string; why: string }) => `cannot use file ${d.file} for etcd: ${d.why}`,
  ),
  'datastore/outcome-unknown': entry(
    'unavailable',
    (d: { endpoint: string; why: string }) =>
      `datastore ${d.endpoint}: connection lost during a write (${d.why}); the outcome is unknown`,
  ),
  'datastore/too-large': entry(
    'state',
    (d: { what: string }) =>
      `change exceeds the datastore's transaction limit (${d.what}), nothing was written; split it into smaller changes`,
  ),
  'datastore/locked': entry(
    'unavailable',
    (d: { endpoint: string }) =>
      `datastore ${d.endpoint} is locked for maintenance (datastoreReady: false); unlock it: calico-cnm datastore unlock`,
  ),
  'datastore/moving': entry(
    'unavailable',
    (d: { node: string; from: string; to: string; since: string }) =>
      `the data of ${d.from} is being moved to ${d.to} by the daemon of node ${d.node} (since ${d.since}); wait, or end an interrupted move: calico-cnm datastore unlock`,
  ),
  'datastore/moved': entry(
    'state',
    (d: { endpoint: string; to: string }) =>
      `the data of ${d.endpoint} was moved to ${d.to}; to use it, ${settingFor(d.to)} in /etc/calico/calico-cnm.env`,
  ),
  'datastore/restoring': entry(
    'unavailable',
    (d: { endpoint: string; from: string; since: string }) =>
      `datastore ${d.endpoint} was restored from ${d.from} (${d.since}), and its hosts are writing what is newer; wait, or end an interrupted restore: calico-cnm datastore unlock`,
  ),
  'datastore/incomplete': entry(
    'state',
    (d: { endpoint: string; from: string }) =>
      `datastore ${d.endpoint} has an incomplete copy of ${d.from}; use ${d.from}, and run calico-cnm datastore migrate again`,
  ),
  'datastore/changed': entry(
    'unavailable',
    (d: { endpoint: string }) =>
      `datastore ${d.endpoint} was changed by another program meanwhile; try again`,
  ),
  'datastore/has-data': entry(
    'state',
    (d: { endpoint: string; what: string }) =>
      `datastore ${d.endpoint} has other data (${d.what}), nothing was moved; choose an empty one, or join its cluster: calico-cnm cluster join`,
  ),
  'datastore/has-nodes': entry(
    'state',
    (d: { endpoint: string; nodes: string }) =>
      `datastore ${d.endpoint} has other nodes (${d.nodes}), nothing was moved; a file serves one host: delete nodes that are gone (calico-cnm node delete), or keep the etcd`,
  ),
  'datastore/collision': entry(
    'state',
    (d: { endpoint: string; what: string }) =>
      `datastore ${d.endpoint} has other values for ${d.what}, nothing was moved; rename or delete these on one side`,
  ),
  'datastore/move-failed': entry(
    'state',
    (d: { from: string; to: string; why: string }) =>
      `the data of ${d.from} was not moved to ${d.to}, and this host continues with ${d.from}: ${d.why}`,
  ),
  'datastore/not-moved': entry('state', (d: { why: string }) => d.why),
  'datastore/watch-lost': entry(
    'unavailable',
    (d: { endpoint: string; why: string }) =>
      `watch on datastore ${d.endpoint} ended (${d.why}); resync needed`,
  ),
  'datastore/not-in-sync': entry(
    'unavailable',
    (d: { endpoint: string }) =>
      `datastore ${d.endpoint} has not been read yet; check that it is running and reachable`,
  ),
  'datastore/too-new': entry(
    'state',
    (d: { endpoint: string; found: number; known: number }) =>
      `datastore ${d.endpoint} has format ${d.found} of a newer calico-cnm (this version supports ${d.known}); install that version`,
  ),
  'datastore/corrupt': entry(
    'state',
    (d: { key: string; why: string }) =>
      `cannot read stored value ${d.key}: ${d.why}; fix or delete it`,
  ),
  'datastore/exists': entry(
    'state',
    (d: { kind: string; name: string }) => `${d.kind} ${d.name} already exists`,
  ),
  'datastore/not-found': entry(
    'state',
    (d: { kind: string; name: string }) => `${d.kind} ${d.name} does not exist`,
  ),
  'datastore/conflict': entry(
    'state',
    (d: { kind: string; name: string }) =>
      `${d.kind} ${d.name} was modified since this resourceVersion was read; read it again (calico-cnm get), or omit resourceVersion to overwrite`,
  ),
  'datastore/contended': entry(
    'unavailable',
    (d: { what: string; attempts: number }) =>
      `${d.what}: too many conflicts with concurrent writers (${d.attempts} attempts)`,
  ),
} as const;

/** The change of the settings that selects a datastore. */
function settingFor(endpoint: string): string {
  return endpoint.includes('://') ? `write ETCD_ENDPOINTS=${endpoint}` : 'remove ETCD_ENDPOINTS';
}
