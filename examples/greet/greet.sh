#!/bin/sh
# A function is whatever reads its payload and prints its answer.
read -r name
echo "Hello, ${name:-nobody}. This is $BROOD_FUNCTION, version $BROOD_FUNCTION_VERSION; $BROOD_REMAINING_MS ms are left."
