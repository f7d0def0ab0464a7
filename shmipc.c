#define SHMIPC_IMPLEMENTATION
#include "shmipc.h"
