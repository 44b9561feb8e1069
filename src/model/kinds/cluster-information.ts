import { z } from 'zod';
import { resource } from '../fields.ts';

/** The one object `default` that says that a datastore is initialised. `calicoVersion` is left unset by us. */
export const clusterInformation = resource(
  'ClusterInformation',
  z.looseObject({
    clusterGUID: z.exactOptional(z.string()),
    clusterType: z.exactOptional(z.string()),
    calicoVersion: z.exactOptional(z.string()),
    datastoreReady: z.exactOptional(z.boolean()),
  }),
);

export type ClusterInformation = z.infer<typeof clusterInformation>;
