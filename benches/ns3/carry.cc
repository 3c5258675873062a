// Carries the flows of a network that is described in a file (benches/src/events/network.rs has the format), and prints
// what that took in one line of JSON.
//
//     carry FILE

#include "ns3/core-module.h"
#include "ns3/drop-tail-queue.h"
#include "ns3/inet-socket-address.h"
#include "ns3/ipv4-interface-address.h"
#include "ns3/ipv4-list-routing-helper.h"
#include "ns3/ipv4-static-routing-helper.h"
#include "ns3/ipv4.h"
#include "ns3/internet-stack-helper.h"
#include "ns3/node.h"
#include "ns3/packet.h"
#include "ns3/point-to-point-channel.h"
#include "ns3/point-to-point-net-device.h"
#include "ns3/socket.h"
#include "ns3/tcp-socket-factory.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <sys/resource.h>
#include <vector>

using namespace ns3;

namespace
{

// Templates ask for their components of logs by name, with logs and without. The build leaves those out that files define.
LogComponent g_queue("Queue", __FILE__);
LogComponent g_dropTail("DropTailQueue", __FILE__);
LogComponent g_queueInterface("NetDeviceQueueInterface", __FILE__);

[[noreturn]] void
Fail(const std::string& what)
{
    std::cerr << "carry: " << what << std::endl;
    std::exit(1);
}

double
ProcessorSeconds()
{
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    const auto seconds = [](const timeval& t) { return t.tv_sec + t.tv_usec / 1e6; };
    return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

// The most memory that was resident, in bytes. That of getrusage() includes the program that has started this one.
long
Peak()
{
    std::ifstream status("/proc/self/status");
    for (std::string line; std::getline(status, line);)
    {
        if (line.rfind("VmHWM:", 0) == 0)
        {
            return std::stol(line.substr(6)) * 1024L;
        }
    }
    throw std::runtime_error("/proc/self/status: no VmHWM");
}

// What a flow sends and has received. It holds its sockets.
struct Flow
{
    uint32_t bytes = 0;
    uint32_t sent = 0;
    uint32_t received = 0;
    bool ended = false;
    Ptr<Socket> listener;
    Ptr<Socket> sender;
    Ptr<Socket> receiver;

    void Fill(Ptr<Socket> socket, uint32_t /* room */)
    {
        while (sent < bytes && socket->GetTxAvailable() > 0)
        {
            const uint32_t part = std::min(bytes - sent, socket->GetTxAvailable());
            const int taken = socket->Send(Create<Packet>(part));
            if (taken <= 0)
            {
                return;
            }
            sent += taken;
        }
        if (sent == bytes && !ended)
        {
            ended = true;
            socket->Close();
        }
    }

    void Connected(Ptr<Socket> socket)
    {
        Fill(socket, 0);
    }

    void Accepted(Ptr<Socket> socket, const Address&)
    {
        receiver = socket;
        socket->SetRecvCallback(MakeCallback(&Flow::Read, this));
        socket->SetCloseCallbacks(MakeCallback(&Flow::PeerClosed, this), MakeNullCallback<void, Ptr<Socket>>());
    }

    void Read(Ptr<Socket> socket)
    {
        while (Ptr<Packet> packet = socket->Recv())
        {
            if (packet->GetSize() == 0)
            {
                break;
            }
            received += packet->GetSize();
        }
    }

    void PeerClosed(Ptr<Socket> socket)
    {
        socket->Close();
    }
};

} // namespace

int
main(int argc, char* argv[])
{
    if (argc != 2)
    {
        Fail("usage: carry FILE");
    }
    std::ifstream file(argv[1]);
    if (!file)
    {
        Fail(std::string("cannot read ") + argv[1]);
    }
    // As in vnet: segments of 1448 bytes with timestamps, buffers of 1 MiB that no flow fills, CUBIC, selective
    // acknowledgements, one acknowledgement for two segments.
    Config::SetDefault("ns3::TcpL4Protocol::SocketType", StringValue("ns3::TcpCubic"));
    Config::SetDefault("ns3::TcpSocket::SegmentSize", UintegerValue(1448));
    Config::SetDefault("ns3::TcpSocket::SndBufSize", UintegerValue(1 << 20));
    Config::SetDefault("ns3::TcpSocket::RcvBufSize", UintegerValue(1 << 20));
    Config::SetDefault("ns3::TcpSocket::InitialCwnd", UintegerValue(10));

    InternetStackHelper stack;
    Ipv4StaticRoutingHelper statics;
    stack.SetRoutingHelper(statics);
    stack.SetIpv6StackInstall(false);

    std::vector<Ptr<Node>> routers;
    std::vector<Ptr<PointToPointNetDevice>> devices;
    // The interfaces of each router, in the order of its links.
    std::vector<std::vector<uint32_t>> interfaces;
    std::vector<std::unique_ptr<Flow>> flows;
    const auto tables = [&](size_t router) {
        return statics.GetStaticRouting(routers.at(router)->GetObject<Ipv4>());
    };

    std::string line;
    while (std::getline(file, line))
    {
        std::istringstream words(line);
        std::string kind;
        words >> kind;
        if (kind == "routers")
        {
            size_t count = 0;
            words >> count;
            for (size_t n = 0; n < count; n++)
            {
                routers.push_back(CreateObject<Node>());
                stack.Install(routers.back());
                interfaces.emplace_back();
            }
        }
        else if (kind == "address")
        {
            size_t router = 0;
            std::string address;
            words >> router >> address;
            const Ipv4InterfaceAddress own(Ipv4Address(address.c_str()), Ipv4Mask::GetOnes());
            routers.at(router)->GetObject<Ipv4>()->AddAddress(0, own);
        }
        else if (kind == "link")
        {
            size_t ends[2] = {};
            std::string addresses[2];
            uint64_t rate = 0;
            uint64_t delay = 0;
            uint32_t queue = 0;
            words >> ends[0] >> addresses[0] >> ends[1] >> addresses[1] >> rate >> delay >> queue;
            Ptr<PointToPointChannel> channel = CreateObject<PointToPointChannel>();
            channel->SetAttribute("Delay", TimeValue(NanoSeconds(delay)));
            for (int end = 0; end < 2; end++)
            {
                Ptr<PointToPointNetDevice> device = CreateObject<PointToPointNetDevice>();
                device->SetAddress(Mac48Address::Allocate());
                device->SetDataRate(DataRate(rate));
                Ptr<DropTailQueue<Packet>> wait = CreateObject<DropTailQueue<Packet>>();
                wait->SetMaxSize(QueueSize(QueueSizeUnit::PACKETS, queue));
                device->SetQueue(wait);
                Ptr<Node> node = routers.at(ends[end]);
                node->AddDevice(device);
                device->Attach(channel);
                devices.push_back(device);
                Ptr<Ipv4> ip = node->GetObject<Ipv4>();
                const uint32_t interface = ip->AddInterface(device);
                // Both addresses of a prefix of 31 bits are hosts (RFC 3021), which ns-3 does not know.
                ip->AddAddress(interface,
                               Ipv4InterfaceAddress(Ipv4Address(addresses[end].c_str()), Ipv4Mask::GetOnes()));
                ip->SetMetric(interface, 1);
                ip->SetUp(interface);
                tables(ends[end])->AddHostRouteTo(Ipv4Address(addresses[1 - end].c_str()), interface);
                interfaces.at(ends[end]).push_back(interface);
            }
        }
        else if (kind == "route")
        {
            size_t router = 0;
            size_t place = 0;
            int length = 0;
            std::string prefix;
            std::string gateway;
            words >> router >> prefix >> length >> gateway >> place;
            const uint32_t bits = length == 0 ? 0 : ~uint32_t{0} << (32 - length);
            tables(router)->AddNetworkRouteTo(Ipv4Address(prefix.c_str()),
                                              Ipv4Mask(bits),
                                              Ipv4Address(gateway.c_str()),
                                              interfaces.at(router).at(place));
        }
        else if (kind == "flow")
        {
            size_t from = 0;
            size_t to = 0;
            std::string address;
            uint16_t port = 0;
            auto flow = std::make_unique<Flow>();
            words >> from >> to >> address >> port >> flow->bytes;
            const TypeId tcp = TcpSocketFactory::GetTypeId();
            flow->listener = Socket::CreateSocket(routers.at(to), tcp);
            flow->listener->Bind(InetSocketAddress(Ipv4Address::GetAny(), port));
            flow->listener->Listen();
            flow->listener->SetAcceptCallback(MakeNullCallback<bool, Ptr<Socket>, const Address&>(),
                                              MakeCallback(&Flow::Accepted, flow.get()));
            flow->sender = Socket::CreateSocket(routers.at(from), tcp);
            flow->sender->Bind();
            flow->sender->SetConnectCallback(MakeCallback(&Flow::Connected, flow.get()),
                                             MakeNullCallback<void, Ptr<Socket>>());
            flow->sender->SetSendCallback(MakeCallback(&Flow::Fill, flow.get()));
            // All begin at once, when the simulation does.
            Flow* its = flow.get();
            Simulator::Schedule(Seconds(0), [its, address, port]() {
                its->sender->Connect(InetSocketAddress(Ipv4Address(address.c_str()), port));
            });
            flows.push_back(std::move(flow));
        }
        else if (!kind.empty())
        {
            Fail("no such line: " + line);
        }
        if (!words)
        {
            Fail("not understood: " + line);
        }
    }

    const double before = ProcessorSeconds();
    Simulator::Stop(Seconds(3600));
    Simulator::Run();
    const double took = ProcessorSeconds() - before;
    const double ended = Simulator::Now().GetSeconds();

    uint64_t frames = 0;
    uint64_t dropped = 0;
    for (const auto& device : devices)
    {
        // Each frame passes through the queue, even when the transmitter is free.
        frames += device->GetQueue()->GetTotalReceivedPackets() - device->GetQueue()->GetTotalDroppedPacketsAfterDequeue();
        dropped += device->GetQueue()->GetTotalDroppedPackets();
    }
    for (size_t n = 0; n < flows.size(); n++)
    {
        if (flows[n]->received != flows[n]->bytes)
        {
            std::ostringstream what;
            what << "flow " << n << " delivered " << flows[n]->received << " of " << flows[n]->bytes << " bytes";
            Fail(what.str());
        }
    }
    std::cout << "{\"frames\":" << frames << ",\"dropped\":" << dropped << ",\"events\":" << Simulator::GetEventCount()
              << ",\"cpu\":" << took << ",\"peak\":" << Peak() << ",\"virtual\":" << ended << "}" << std::endl;
    Simulator::Destroy();
    // The sockets go with the flows, while what they refer to is there.
    return 0;
}
