import { loadLibc } from '../../../src/dataplane/netlink/libc.ts';
import { ToolRunner } from '../../../src/dataplane/process.ts';
import type { Draft } from '../../../src/datastore/writer.ts';
import type { Backend } from '../../../src/dataplane/iptables/tables.ts';
import { makeContainerNamespace } from '../container-namespace.ts';
import { KernelAgent } from '../kernel-agent.ts';
import { addresses, containerNames, containers, hosts, type Host } from './places.ts';
import type { Entry } from './resources.ts';

/**
 * One host of the difference test, in a process of its own: an agent in a network namespace, with the containers of the
 * host. For each message, the resources to write, it answers with a message when the kernel has them.
 *
 *     host-process.ts HOST NAMESPACE BACKEND
 */

/** Sent by the parent: what is no longer stored, and what is. */
export interface Change {
  readonly removed: readonly Pick<Entry, 'kind' | 'id'>[];
  readonly stored: readonly Entry[];
}

/** The answer; `problem` if the resources were not written. */
export interface Done {
  readonly problem?: string;
}

async function run(host: Host, namespace: string, backend: Backend): Promise<void> {
  const libc = loadLibc();
  const fd = libc.open(`/run/netns/${namespace}-${host}`, 0);
  if (fd < 0 || libc.setns(fd, 0x40000000) < 0) throw new Error(`cannot enter ${host}`);
  libc.close(fd);
  const lab = await KernelAgent.start(backend, new ToolRunner(), 'drop', {
    node: host,
    endsForbiddenFlows: false,
  });
  for (const name of containerNames.filter((one) => containers[one].host === host)) {
    lab.makeLink(`cali${name}`);
    makeContainerNamespace({
      name,
      netns: `${namespace}-${name}`,
      interfaceName: `cali${name}`,
      address4: addresses[name][4],
      address6: addresses[name][6],
    });
  }
  const change = async ({ removed, stored }: Change): Promise<void> => {
    const revision = await lab.write((draft) => {
      for (const { kind, id } of removed) draft.remove(kind, id);
      for (const entry of stored) put(draft, entry);
    });
    await lab.agent.programmed('none', revision, AbortSignal.timeout(120_000));
  };
  process.on('message', (message: Change) => {
    change(message).then(
      () => process.send?.({} satisfies Done),
      (error: unknown) => process.send?.({ problem: String(error) } satisfies Done),
    );
  });
  process.on('disconnect', () => {
    void lab[Symbol.asyncDispose]().then(() => process.exit());
  });
  process.send?.({} satisfies Done);
}

function put(draft: Draft, entry: Entry): void {
  switch (entry.kind) {
    case 'Tier':
      return draft.put(entry.kind, entry.id, entry.value);
    case 'Profile':
      return draft.put(entry.kind, entry.id, entry.value);
    case 'NetworkPolicy':
      return draft.put(entry.kind, entry.id, entry.value);
    case 'GlobalNetworkPolicy':
      return draft.put(entry.kind, entry.id, entry.value);
    case 'StagedNetworkPolicy':
      return draft.put(entry.kind, entry.id, entry.value);
    case 'StagedGlobalNetworkPolicy':
      return draft.put(entry.kind, entry.id, entry.value);
    case 'NetworkSet':
      return draft.put(entry.kind, entry.id, entry.value);
    case 'GlobalNetworkSet':
      return draft.put(entry.kind, entry.id, entry.value);
    case 'WorkloadEndpoint':
      return draft.put(entry.kind, entry.id, entry.value);
    case 'HostEndpoint':
      return draft.put(entry.kind, entry.id, entry.value);
    case 'FelixConfiguration':
      return draft.put(entry.kind, entry.id, entry.value);
    default:
      return entry satisfies never;
  }
}

const [, , host, namespace = '', backend] = process.argv;
const known = hosts.find((one) => one === host);
if (import.meta.main && known !== undefined) {
  await run(known, namespace, backend === 'legacy' ? 'legacy' : 'nft');
}
