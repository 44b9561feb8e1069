/** Annotations of a BGPPeer for what Calico's API has no field for. */
export const peerAnnotations = {
  /** `on`: a lost BFD session ends the BGP session; `graceful`: as a graceful restart. */
  bfd: 'docker.projectcalico.org/bfd',
  /** `one` or `several`: whether BFD is that of one hop (RFC 5881) or of several (RFC 5883). */
  bfdHops: 'docker.projectcalico.org/bfd-hops',
  /** Routes of a peer beyond this number are not imported. */
  maxPrefixes: 'docker.projectcalico.org/max-prefixes',
} as const;
