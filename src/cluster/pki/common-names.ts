/**
 * Common names that are no users of etcd. Members accept only peers with theirs (`peer-cert-allowed-cn`), because the
 * certificates of nodes are signed by the same authority.
 */
export const commonNames = {
  authority: 'calico-cnm cluster CA',
  server: 'calico-cnm etcd server',
  peer: 'calico-cnm etcd peer',
  /** The administrator of etcd. */
  admin: 'root',
} as const;
