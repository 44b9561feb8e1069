import { CalicoError } from '../../errors/error.ts';
import type { EtcdAdmin, Member } from './admin.ts';
import { clientPort, etcdUrl } from './configuration.ts';
import { isWorking } from './observed-members.ts';

/** So many hosts are asked at a time. */
const atOnce = 8;

/** What may know the members, although none of the known endpoints responds. */
export interface Acquaintances {
  /** Endpoints that were tried already. */
  readonly known: readonly string[];
  /** Addresses of the member of this host and of its peers, as its configuration names them. */
  readonly configured: readonly string[];
  /** Addresses of all hosts. */
  readonly hosts: readonly string[];
}

/** Returns the endpoints to be tried, the most promising first. */
export function candidatesOf({ known, configured, hosts }: Acquaintances): readonly string[] {
  const all = [...configured, ...hosts].map((address) => etcdUrl(address, clientPort));
  return [...new Set(all)].filter((endpoint) => !known.includes(endpoint));
}

/**
 * Returns the members as one of the candidates knows them that has a leader, so that it is no remainder of a former
 * cluster. A host may have to look for them: it knew only a member that is lost, and others became members just before.
 * Each candidate proves by its certificate that it is a member. Throws `datastore/unavailable`.
 */
export async function findMembers(
  candidates: readonly string[],
  open: (
    endpoint: string,
  ) => Promise<{ readonly admin: Pick<EtcdAdmin, 'members' | 'status'> } & AsyncDisposable>,
): Promise<readonly Member[]> {
  const ask = async (endpoint: string): Promise<readonly Member[]> => {
    await using opened = await open(endpoint);
    const status = await opened.admin.status({ clientUrls: [endpoint] });
    if (!isWorking(status)) throw new Error(typeof status === 'string' ? status : 'no leader');
    return opened.admin.members();
  };
  for (let from = 0; from < candidates.length; from += atOnce) {
    try {
      return await Promise.any(candidates.slice(from, from + atOnce).map(ask));
    } catch {
      // None of these.
    }
  }
  const why = 'no host of the cluster responds as a member';
  throw new CalicoError('datastore/unavailable', { endpoint: candidates.join(','), why });
}
