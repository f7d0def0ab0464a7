#define SHMIPC_IMPLEMENTATION
#include "shmipc.h"
#ifndef SHMIPC_RINGS_ONLY
#include "shmipc_crypto.h"
#include "shmipc_socket.h"
#endif
