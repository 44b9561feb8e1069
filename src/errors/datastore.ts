import { entry } from './spec.ts';

/** What can go wrong between us and etcd or the SQLite file. */
export const datastoreErrors = {
  'datastore/unavailable': entry(
    'unavailable',
    (d: { endpoint: string; why: string }) =>
      `datastore ${d.endpoint} does not answer (${d.why}); check that it runs and is reachable`,
  ),
  'datastore/refused': entry(
    'unavailable',
    (d: { endpoint: string; why: string }) => `datastore ${d.endpoint} cannot be used: ${d.why}`,
  ),
  'datastore/bad-file': entry(
    'state',
    (d: { file: string; why: string }) => `file ${d.file} cannot be used for etcd: ${d.why}`,
  ),
  'datastore/outcome-unknown': entry(
    'unavailable',
    (d: { endpoint: string; why: string }) =>
      `datastore ${d.endpoint} broke off during a write (${d.why}); whether it was applied is not known`,
  ),
  'datastore/too-large': entry(
    'state',
    (d: { what: string }) =>
      `nothing was written: the change is larger than one transaction of the datastore may be (${d.what}); make it in smaller steps`,
  ),
  'datastore/locked': entry(
    'unavailable',
    (d: { endpoint: string }) =>
      `datastore ${d.endpoint} is locked for maintenance (ClusterInformation default: datastoreReady is false), so nothing is written; when that is done, unlock it (calico-cnm datastore unlock, or calicoctl datastore migrate unlock)`,
  ),
  'datastore/watch-lost': entry(
    'unavailable',
    (d: { endpoint: string; why: string }) =>
      `watch on datastore ${d.endpoint} ended (${d.why}); a new listing is needed`,
  ),
  'datastore/not-in-sync': entry(
    'unavailable',
    (d: { endpoint: string }) =>
      `calico-cnm is starting and has not read datastore ${d.endpoint} yet; try again in some seconds`,
  ),
  'datastore/too-new': entry(
    'state',
    (d: { endpoint: string; found: number; known: number }) =>
      `datastore ${d.endpoint} was written by a newer calico-cnm (format ${d.found}, this one knows ${d.known}); install that version`,
  ),
  'datastore/corrupt': entry(
    'state',
    (d: { key: string; why: string }) =>
      `stored value ${d.key} cannot be read: ${d.why}; mend or delete it`,
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
      `${d.kind} ${d.name} was changed since this resourceVersion was read; read it again (calico-cnm get), or leave resourceVersion out to replace it as it is`,
  ),
  'datastore/contended': entry(
    'unavailable',
    (d: { what: string; attempts: number }) =>
      `${d.what}: gave up after ${d.attempts} attempts against concurrent writers`,
  ),
} as const;
