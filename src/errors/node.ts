import { entry } from './spec.ts';

/** Errors of hosts as nodes of a cluster. */
export const nodeErrors = {
  'node/name-taken': entry(
    'unavailable',
    (d: { node: string; other: string; file: string }) =>
      `node name ${d.node} is in use by another host, which is running (${d.other}); give this host a name of its own: delete ${d.file} or set NODENAME, then restart the daemon`,
  ),
  'node/address-taken': entry(
    'state',
    (d: { address: string; other: string; state: string }) =>
      `node ${d.other} has address ${d.address} of this host, and ${d.state}; change the address of one of the two, or select another with IP_AUTODETECTION_METHOD; if the host of node ${d.other} is gone: calico-cnm node delete ${d.other} --force`,
  ),
  'node/deleted': entry(
    'unavailable',
    (d: { node: string }) =>
      `node ${d.node} was deleted from the datastore, and its networks and endpoints with it; restart the daemon to join the cluster again, and recreate the networks`,
  ),
  'node/being-deleted': entry(
    'unavailable',
    (d: { node: string }) =>
      `node ${d.node} is being deleted; wait, or finish an interrupted deletion: calico-cnm node delete ${d.node}`,
  ),
  'node/runs': entry(
    'state',
    (d: { node: string; since: string }) =>
      `node ${d.node} is running (since ${d.since}); stop its daemon first, or run calico-cnm node delete ${d.node} --force: its containers then lose their network`,
  ),
  'node/may-run': entry(
    'state',
    (d: { node: string }) =>
      `node ${d.node} has never reported whether it is running, like nodes of calico/node and of earlier versions; if its host is gone or stopped, run calico-cnm node delete ${d.node} --force`,
  ),
} as const;
