import type { BgpProblem } from './bgp-inputs.ts';
import { peerAnnotations } from './peer-annotations.ts';

interface SessionPlace {
  /** The peer is on a network of this host. */
  readonly isOnNetwork: boolean;
  /** The session has a source address. */
  readonly hasSource: boolean;
  readonly ttlHops: number | undefined;
}

/** The BFD of a session. */
export interface SessionBfd {
  readonly bfd: 'on' | 'graceful' | undefined;
  /** Only a peer on a network of this host is one: its BFD is that of one hop. */
  readonly isDirect: boolean;
}

/**
 * Returns the BFD of a session, by the annotations of its BGPPeer. With a peer on a network of this host it is that of
 * one hop (RFC 5881), otherwise that of several (RFC 5883), which has another port; both ends must agree. FRR 8.4 uses
 * that of several hops with a neighbour on the same network that has TTL security and is in no peer group: for this
 * there is an annotation. BIRD needs a source address for BFD of several hops.
 */
export function sessionBfd(
  annotations: Readonly<Record<string, string>>,
  { isOnNetwork, hasSource, ttlHops = 1 }: SessionPlace,
): SessionBfd & { readonly problems: readonly Omit<BgpProblem, 'resource'>[] } {
  const { [peerAnnotations.bfd]: bfd, [peerAnnotations.bfdHops]: hops } = annotations;
  const problems: Omit<BgpProblem, 'resource'>[] = [];
  const invalid = (annotation: keyof typeof peerAnnotations, why: string) =>
    problems.push({ field: `metadata.annotations.${peerAnnotations[annotation]}`, why });
  if (bfd !== undefined && bfd !== 'on' && bfd !== 'graceful') {
    invalid('bfd', 'must be on or graceful');
  }
  if (hops !== undefined && hops !== 'one' && hops !== 'several') {
    invalid('bfdHops', 'must be one or several');
  }
  if (bfd !== 'on' && bfd !== 'graceful') return { bfd: undefined, isDirect: false, problems };
  if (hops === 'one' && !isOnNetwork) {
    invalid('bfdHops', 'is one, and the peer is on no network of this host');
  }
  const isDirect = isOnNetwork && ttlHops === 1 && hops !== 'several';
  if (!isDirect && !hasSource) {
    const why = 'is None, and BFD of several hops needs the address of the node';
    problems.push({ field: 'spec.sourceAddress', why });
  }
  return { bfd, isDirect, problems };
}
