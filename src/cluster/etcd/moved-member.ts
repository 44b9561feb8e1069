import { isIPv6 } from 'node:net';
import type { IpFamily } from '../../ip/address.ts';
import { writeClusterFile, type ClusterFile, type ClusterPaths } from '../cluster-file.ts';
import { clientPort, etcdUrl, peerPort } from './configuration.ts';
import { configuredAddress, startMember } from './local-member.ts';
import type { UnitManager } from './units.ts';

export interface MovedMemberDeps {
  readonly paths: ClusterPaths;
  readonly units: UnitManager;
  /** All addresses of the interfaces of this host. */
  readonly hostAddresses: () => readonly string[];
  /** The address of this host for others in a family, as it is chosen now. */
  readonly detectAddress: (family: IpFamily) => Promise<string | undefined>;
  /** Issues the certificates of a member for the present addresses. */
  readonly bringFiles: () => Promise<unknown>;
}

/**
 * Restarts the only member of a cluster with the new address of its host, if it has lost the configured one: etcd
 * cannot be reached until then, so the records, by which a member of several follows, cannot be read. Returns the new
 * address, or `undefined` if nothing was done. The keeper writes it to the records afterwards.
 */
export async function followLostAddress(
  file: ClusterFile,
  deps: MovedMemberDeps,
): Promise<string | undefined> {
  const { paths, units, hostAddresses, detectAddress, bringFiles } = deps;
  const former = configuredAddress(paths);
  const isOnly = former !== undefined && file.endpoints.join() === etcdUrl(former, clientPort);
  if (!isOnly || file.part !== 'member' || hostAddresses().includes(former)) return undefined;
  const address = await detectAddress(isIPv6(former) ? 6 : 4);
  if (address === undefined || address === former) return undefined;
  await bringFiles();
  const members = [{ name: file.node, peerUrl: etcdUrl(address, peerPort) }];
  const configuration = { name: file.node, address, cluster: file.uid, members };
  await startMember({ ...configuration, state: 'new' }, { paths, units });
  writeClusterFile(paths, { ...file, endpoints: [etcdUrl(address, clientPort)] });
  return address;
}
