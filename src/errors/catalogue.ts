import { cliErrors } from './cli.ts';
import { clusterErrors } from './cluster.ts';
import { configErrors } from './config.ts';
import { datastoreErrors } from './datastore.ts';
import { dockerErrors } from './docker.ts';
import { driverErrors } from './driver.ts';
import { ipamErrors } from './ipam.ts';
import { kernelErrors } from './kernel.ts';
import { modelErrors } from './model.ts';
import { nodeErrors } from './node.ts';
import { portErrors } from './ports.ts';
import { entry } from './spec.ts';

/** All errors of the project, one file per area. */
export const catalogue = {
  'internal/unexpected': entry('bug', (d: { what: string }) => `unexpected error: ${d.what}`),
  ...cliErrors,
  ...clusterErrors,
  ...configErrors,
  ...datastoreErrors,
  ...dockerErrors,
  ...driverErrors,
  ...ipamErrors,
  ...kernelErrors,
  ...modelErrors,
  ...nodeErrors,
  ...portErrors,
} as const;
