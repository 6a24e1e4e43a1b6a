// The faults in WebKitGTK: PASSERBY_BIN=… node --test faults-webkit.test.mjs

import { faults } from './faults.mjs';
import { launch } from './webkit.mjs';

faults('WebKitGTK', launch);
