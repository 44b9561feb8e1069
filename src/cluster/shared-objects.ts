import { bootstrapCluster } from '../datastore/bootstrap.ts';
import { chooseVni, hasTunnels } from '../datastore/choose-vni.ts';
import type { Draft } from '../datastore/writer.ts';
import type { Stamp } from '../model/stamp.ts';

/**
 * A plan that creates the objects of a cluster that its nodes need and cannot create, if they are missing: identity,
 * tier `default`, and the VNI of the tunnels. To be run with the admin credential.
 */
export function createSharedObjects(draft: Draft, stamp: Stamp): void {
  bootstrapCluster(draft, stamp);
  if (!hasTunnels(draft)) chooseVni(draft, stamp);
}
