import type { CommandOptions, CommandResult } from '../process.ts';

/** An end of the network that can reach others and be reached: an endpoint, or a host itself. */
export interface Peer {
  readonly name: string;
  /** The name of its host. */
  readonly on: string;
  /** Its IPv4 and IPv6 addresses. */
  readonly addresses: readonly string[];
  /** Whether it serves its name on port 8080. */
  readonly serves: boolean;
  /** Runs a command in its network, with the files of its host. */
  exec(argv: readonly string[], options?: CommandOptions): Promise<CommandResult>;
}
