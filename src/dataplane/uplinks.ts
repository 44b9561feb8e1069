/** The interfaces by which a host reaches others. */
export interface Uplinks {
  /** The MTU in bytes that all of them have at least. */
  readonly mtuBytes: number;
  /** The numbers of the interfaces in the kernel. */
  readonly indexes: ReadonlySet<number>;
}
