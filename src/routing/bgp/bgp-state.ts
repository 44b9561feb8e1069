/** What BGP does on this host, for those who write routes to other hosts. */
export interface BgpState {
  /** BIRD runs, and its routes are used. */
  readonly isOn: boolean;
  /** It has had sessions for long enough: what it has no route to is not to be reached. */
  readonly isSettled: boolean;
  /** A session with a router that is no node is established: routers may know the way to other nodes. */
  readonly hasRouter: boolean;
}

export const bgpIsOff: BgpState = { isOn: false, isSettled: false, hasRouter: false };
