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
